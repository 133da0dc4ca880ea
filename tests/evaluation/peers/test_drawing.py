"""The figures of a study of peers, with as many arms as it can have."""

from __future__ import annotations

from constellation.evaluation.drawing import BASE, START, legend_above, panels
from constellation.evaluation.peers.drawing import CONTROLS
from constellation.selftraining.peers import ARMS


def test_every_arm_has_a_colour_of_its_own() -> None:
    assert len({BASE, START, *CONTROLS}) == 2 + len(CONTROLS)
    assert len(CONTROLS) == len(ARMS) - 1  # PST has another


def test_the_legend_of_every_arm_is_inside_the_figure() -> None:
    figure, (ax,) = panels(1, 2.9, sharey=False)
    for arm in ARMS:
        ax.plot([], [], label=arm)
    legend_above(figure, ax)
    figure.canvas.draw()
    [legend] = figure.legends
    assert legend.get_window_extent().x1 <= figure.bbox.x1
