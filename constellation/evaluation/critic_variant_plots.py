"""The figure of the critic under other circumstances: visible examples, and critics trained otherwise."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from constellation.evaluation.drawing import (
    INK,
    ROUNDS,
    SELECTORS,
    START,
    Results,
    band,
    colour,
    interval_mark,
    k_axis,
    names_axis,
    panels,
)


def critic_variants(results: Results) -> Figure | None:
    """Gains over the first survivor by number of visible examples, over k at each, and of other critics."""
    found, small = results["critic_variants"], str(results["analysis"]["small_k"])
    count = 2 * bool(found["visible"]) + bool(found["critics"])
    if not count:
        return None
    figure, axes = panels(count, height=3.2, sharey=False)
    for ax in axes:
        ax.axhline(0, color=INK, linewidth=0.9)
    if found["visible"]:
        by_number(axes[0], found["visible"], small)
        over_k(axes[1], found["visible"])
    if found["critics"]:
        by_critic(axes[-1], results, small)
    axes[0].set_ylabel("minus first survivor, points")
    return figure


def by_number(ax: Axes, visible: dict[str, Any], small: str) -> None:
    """Critic, majority and oracle side by side at each number of visible examples."""
    for i, name in enumerate(("critic", "majority", "oracle")):
        for position, by_k in enumerate(visible.values()):
            label = name if position == 0 else ""
            interval_mark(ax, position + 0.2 * (i - 1), by_k[small][name], SELECTORS[name], label=label)
    names_axis(ax, list(visible))
    ax.set(title=f"k = {small}", xlabel="visible examples")
    ax.legend()


def over_k(ax: Axes, visible: dict[str, Any]) -> None:
    """The critic's gain over k, a curve a number of visible examples."""
    for (number, by_k), paint in zip(visible.items(), (START, *ROUNDS) * 2, strict=False):
        entries = {k: entry["critic"] for k, entry in by_k.items()}
        band(ax, entries, paint, f"{number} visible", marker="o")
        k_axis(ax, by_k)
    ax.set_title("critic")
    ax.legend()


def by_critic(ax: Axes, results: Results, small: str) -> None:
    """Other critics, filled, beside the fixed one on the same candidates, open; last, of permuted labels."""
    critics = results["critic_variants"]["critics"]
    permuted = [entry for entry in results["controls"]["critic"] if entry["models"] == ["permuted_critic"]]
    for position, entry in enumerate(critics.values()):
        both, paint = entry["ks"][small], colour(results, entry["model"])
        interval_mark(ax, position - 0.12, both["fixed"]["gain"], paint, face="none")
        interval_mark(ax, position + 0.12, both["variant"]["gain"], paint)
    for position, entry in enumerate(permuted, len(critics)):
        interval_mark(ax, position, entry, INK)
    names = [*critics, *("permuted_labels" for _ in permuted)]
    names_axis(ax, [name.replace("_", "\n") for name in names])
    ax.set_title(f"critics at k = {small}")
