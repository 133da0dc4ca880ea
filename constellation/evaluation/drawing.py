"""How the report's figures look: their style, axes and marks, and how a figure becomes SVG for the page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from constellation.evaluation.entries import Entries, Entry
from constellation.evaluation.study import StudyResults

INK, RULE = "#24292f", "#d9dce0"  # replaced in SVG by the page's own colours
BASE, START = "#8b929c", "#3f7fce"
ROUNDS = ("#e39a2d", "#cf4a35", "#9c2f6f", "#6a3d9a", "#3d3d8f")
SELECTORS = {
    "critic": "#cf4a35",
    "critic_mass": "#e39a2d",
    "probe_critic_mass": "#b8862b",
    "prior_critic": "#9c2f6f",
    "majority": "#3f7fce",
    "probe_majority": "#7fb2e5",
    "likeliest": "#2f7d86",
    "shortest": "#3a9a7c",
    "uniform": "#a07cc5",
    "naive": "#8b929c",
    "ideal_critic": "#6d5b3f",
    "oracle": INK,
}
STYLE: Any = {  # matplotlib types its parameters key by key
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 9,
    "axes.edgecolor": RULE,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
}


def colour(study: StudyResults, model: str) -> str:
    """Grey for the base, blue for the starting generator, warm and darkening for the rounds."""
    index = study.models.index(model)
    return (BASE, START)[index] if index < 2 else ROUNDS[(index - 2) % len(ROUNDS)]


def svg(figure: Figure) -> str:
    """The figure as SVG for the page: transparent, its ink and rules in the page's colours."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").replace(RULE, "var(--rule)")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[\w.]+_\d+"', "<g", text)  # these would repeat between figures
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text))


def panels(count: int, height: float, sharey: bool) -> tuple[Figure, Sequence[Axes]]:
    """A row of panels as wide as the page."""
    figure = Figure(figsize=(10.4, height))
    return figure, figure.subplots(1, count, sharey=sharey, squeeze=False)[0]


def band(ax: Axes, rows: Entries, paint: str, label: str, marker: str = "", style: Any = "-") -> None:
    """A curve over k in the band of its intervals."""
    ks, values = rows.values("k"), percent(row.estimate for row in rows)
    low, high = zip(*(row.interval for row in rows), strict=True)
    ax.fill_between(ks, percent(low), percent(high), color=paint, alpha=0.14, linewidth=0)
    ax.plot(ks, values, color=paint, label=label, marker=marker, markersize=3.5, linestyle=style)


class Curve(NamedTuple):
    """Rows over k, as a line in the band of their intervals, with a thin line for each trajectory."""

    rows: Entries
    paint: str
    label: str
    marker: str = ""
    style: Any = "-"
    trajectories: bool = True


def curves_by_bank(
    curves: Sequence[Curve], ylabel: str, height: float, by: str = "bank"
) -> tuple[Figure, dict[Any, Axes]]:
    """A panel for each bank (or value of the rows' field `by`), with a shared y axis and a legend above."""
    titles = list(dict.fromkeys(getattr(row, by) for curve in curves for row in curve.rows))
    figure, axes = panels(len(titles), height, sharey=True)
    for title, ax in zip(titles, axes, strict=True):
        shown = [curve._replace(rows=curve.rows.where(**{by: title})) for curve in curves]
        for rows, paint, _, marker, style, trajectories in shown:
            if rows:
                band(ax, rows, paint, "", marker, style)
                if trajectories:
                    thin_lines(ax, rows, paint)
        ax.set_title(title)
        k_axis(ax, [row.k for curve in shown for row in curve.rows])
    for _, paint, label, marker, style, _ in curves:  # a panel may lack a curve, the legend lacks none
        axes[0].plot([], [], color=paint, label=label, marker=marker, markersize=3.5, linestyle=style)
    axes[0].set_ylabel(ylabel)
    legend_above(figure, axes[0])
    return figure, dict(zip(titles, axes, strict=True))


def zero_line(ax: Axes) -> None:
    """A line at 0, where nothing differs, under the curves."""
    ax.axhline(0, color=INK, linewidth=0.9, zorder=1.9)


def interval_mark(
    ax: Axes,
    at: float,
    row: Entry,
    paint: str,
    *,
    marker: str = "o",
    face: str | None = None,
    size: float = 6,
    label: str = "",
    scale: float = 100,
    level: bool = False,
) -> None:
    """A row's estimate and interval, if defined: upright at x = `at` or, if `level`, lying at y = `at`.

    `face` fills the mark, by default its own colour.
    """
    if row.interval is not None and None not in row.interval:
        ends, place = [scale * end for end in row.interval], [at, at]
        ax.plot(*((ends, place) if level else (place, ends)), color=paint, linewidth=2, alpha=0.55)
    if row.estimate is not None:
        point = (scale * row.estimate, at) if level else (at, scale * row.estimate)
        ax.plot(*point, marker, color=paint, markerfacecolor=face or paint, markersize=size, label=label)


def mark(ax: Axes, *at: int) -> None:
    """Dashed vertical lines at the k that a finding is read at."""
    for x in at:
        ax.axvline(x, color=RULE, linewidth=1.2, linestyle=(0, (2, 2)))


def null_span(
    ax: Axes, at: float, interval: Sequence[float], scale: float = 100, *, level: bool = False
) -> None:
    """A grey span of the null's interval behind the mark at x = `at` or, if `level`, at y = `at`."""
    ends, across = [scale * end for end in interval], [at - 0.4, at + 0.4]
    x, (low, high) = (ends, across) if level else (across, ends)
    ax.fill_between(x, low, high, color=RULE, alpha=0.45, linewidth=0, zorder=0)


def null_curve(ax: Axes, rows: Entries, paint: str = INK) -> None:
    """Dotted curves of both ends of a null's interval over k."""
    for end in zip(*(row.interval for row in rows), strict=True):
        ax.plot(rows.values("k"), percent(end), color=paint, linewidth=0.8, linestyle=(0, (1, 2)))


def thin_lines(ax: Axes, rows: Entries, paint: str) -> None:
    """The curve of each trajectory, where there are several."""
    if any(row.by_trajectory is None or len(row.by_trajectory) == 1 for row in rows):
        return
    for curve in zip(*(row.by_trajectory for row in rows), strict=True):
        ax.plot(rows.values("k"), percent(curve), color=paint, linewidth=0.6, alpha=0.45)


def k_axis(ax: Axes, ks: Iterable[Any]) -> None:
    """A logarithmic k axis with its powers of two written out."""
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator([2**i for i in range(max(ks).bit_length())]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("samples k")


def names_axis(ax: Axes, names: Sequence[str]) -> None:
    """An x axis of names at 0, 1, ..."""
    ax.set_xticks(range(len(names)), names)
    ax.set_xlim(-0.6, len(names) - 0.4)
    ax.grid(axis="x", visible=False)


def legend_above(figure: Figure, ax: Axes) -> None:
    """One legend for all panels above them, in one row, or two where many names would be cut off."""
    handles, labels = ax.get_legend_handles_labels()
    columns = len(labels) if len(labels) < 10 else -(-len(labels) // 2)
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, handlelength=1.6)


def percent(values: Iterable[float]) -> list[float]:
    """Shares as percentages."""
    return [100 * value for value in values]


def pretraining(metrics: Sequence[dict[str, float]], path: Path) -> None:
    """Writes a PNG of the loss and the answers' accuracy over the steps of a pretraining's metrics."""
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(2, height=2.4, sharey=False)
        curves = ("loss", "loss", 1), ("answer_accuracy", "next-token accuracy on programs, %", 100)
        steps = [row["step"] for row in metrics]
        for ax, (name, label, scale) in zip(axes, curves, strict=True):
            ax.plot(steps, [scale * row[name] for row in metrics], color=START, lw=1.2)
            ax.set(title=label, xlabel="steps", ylim=(0, None))
        figure.savefig(path, dpi=180, metadata={"Software": None})
