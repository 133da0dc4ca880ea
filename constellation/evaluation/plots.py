"""The report's figures: each takes the results of `analysis.analyse`; without data it returns None.

A figure is drawn once and written twice: as a PNG on white, and as SVG whose ink follows the page, so that
the report reads well in light and dark. Both have the same bytes for the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from constellation.evaluation import forecast_plots, question, selector_plots
from constellation.evaluation.control_plots import control_changes, control_reach
from constellation.evaluation.critic_variant_plots import critic_variants
from constellation.evaluation.drawing import (
    INK,
    SELECTORS,
    START,
    STYLE,
    Results,
    band,
    colour,
    interval_mark,
    k_axis,
    legend_above,
    mark,
    names_axis,
    null_curve,
    null_spans,
    panels,
    percent,
    svg,
    thin_lines,
)

OVER_K = ("critic", "majority", "likeliest", "ideal_critic")  # selectors that are drawn over k


def pass_at_k(results: Results) -> Figure | None:
    """pass@k of every model on every bank, with bands; thin lines are its trajectories."""
    banks = list(results["pass_at_k"])
    figure, axes = panels(len(banks), height=3.4, sharey=True)
    for ax, bank in zip(axes, banks, strict=True):
        curves = results["pass_at_k"][bank]
        longest: dict[str, Any] = {}
        for model in results["models"]:
            paint, intervals = colour(results, model), results["pass_at_k_interval"][bank][model]
            by_k = {k: {"estimate": share, "interval": intervals[k]} for k, share in curves[model].items()}
            band(ax, by_k, paint, model)
            thin_lines(ax, by_k, results["pass_at_k_by_trajectory"][bank][model], paint)
            longest |= by_k
        ax.set_title(f"{bank}  \N{MIDDLE DOT}  {results['tasks'][bank]} tasks")
        ax.set_ylim(0, 100)
        k_axis(ax, longest)
    axes[0].set_ylabel("pass@k, % of tasks")
    legend_above(figure, axes[0])
    return figure


def change_at_k(results: Results) -> Figure | None:
    """D(k): every round's pass@k minus gen_v0's, above 0 it is ahead.

    Dotted is the null: of the halvings, in each round's colour, where there is a doubled pool, and elsewhere
    of another warm start.
    """
    rounds = results["models"][2:]
    if not rounds:
        return None
    banks = list(results["change_at_k"])
    figure, axes = panels(len(banks), height=3.0, sharey=True)
    for ax, bank in zip(axes, banks, strict=True):
        ax.axhline(0, color=INK, linewidth=0.9)
        longest: dict[str, Any] = {}
        for model in rounds:
            by_k = results["change_at_k"][bank][model]
            label = f"{model} \N{MINUS SIGN} {results['models'][1]}"
            band(ax, by_k, colour(results, model), label)
            each = zip(*(entry["by_trajectory"] for entry in by_k.values()), strict=True)
            thin_lines(ax, by_k, list(each), colour(results, model))
            longest |= by_k
        halvings, restarted = results["null"]["halvings"].get(bank), results["another_warm_start"]
        if halvings:
            for model, by_k in halvings["change_at_k"].items():
                null_curve(ax, by_k, colour(results, model))
        elif restarted:
            null_curve(ax, {k: restarted["change_at_k"][bank][k] for k in longest})
        mark(ax, results["analysis"]["small_k"], results["analysis"]["large_k"])
        ax.set_title(bank)
        k_axis(ax, longest)
    axes[0].set_ylabel("change of pass@k, points")
    legend_above(figure, axes[0])
    return figure


def round_gains(results: Results) -> Figure | None:
    """What each round adds to the one before, at both k; small marks are the trajectories.

    The spans behind are the null's at small_k.
    """
    if len(results["sequence"]) < 3:
        return None
    ks = [results["analysis"]["small_k"], results["analysis"]["large_k"]]
    banks = list(results["gains"])
    figure, axes = panels(len(banks), height=2.8, sharey=True)
    for ax, bank in zip(axes, banks, strict=True):
        ax.axhline(0, color=INK, linewidth=0.9)
        null_spans(ax, results, bank)
        for k, offset, marker in zip(ks, (-0.1, 0.1), "os", strict=True):
            for position, gain in enumerate(results["gains"][bank]):
                if str(k) not in gain["ks"]:
                    continue
                entry, x = gain["ks"][str(k)], position + offset
                paint = colour(results, gain["to"])
                if results["trajectories"] > 1:
                    each = percent(entry["by_trajectory"])
                    ax.plot([x + 0.08] * len(each), each, marker, color=paint, markersize=2, alpha=0.6)
                interval_mark(ax, x, entry, paint, marker=marker, face=paint if marker == "o" else "none")
        names_axis(ax, [f"{gain['from']} to {gain['to']}" for gain in results["gains"][bank]])
        ax.set_title(bank)
    for k, marker, face in zip(ks, "os", (INK, "none"), strict=True):
        axes[0].plot([], [], marker, color=INK, markerfacecolor=face, markersize=6, label=f"pass@{k}")
    axes[0].set_ylabel("gain over the model before, points")
    legend_above(figure, axes[0])
    return figure


def headroom(results: Results) -> Figure | None:
    """Each round's gain at small_k on three scales: as it stands, of the headroom left, and in logits.

    The spans behind are the null's on the primary bank.
    """
    if len(results["sequence"]) < 3:
        return None
    banks = list(results["headroom"])
    scales = {
        "gain": ("points", 100),
        "share_of_headroom": ("% of what was left", 100),
        "logit": ("logits", 1),
    }
    figure, axes = panels(len(scales), height=2.5, sharey=False)
    for ax, (scale, (unit, factor)) in zip(axes, scales.items(), strict=True):
        ax.axhline(0, color=INK, linewidth=0.9)
        for i, bank in enumerate(banks):
            for position, entry in enumerate(results["headroom"][bank]["rounds"]):
                if entry[scale]["estimate"] is None:
                    continue
                x = position + 0.16 * (i - (len(banks) - 1) / 2)
                paint, marker = colour(results, entry["to"]), "osD^v"[i % 5]
                interval_mark(ax, x, entry[scale], paint, marker=marker, size=5, scale=factor)
        rounds = results["headroom"][banks[0]]["rounds"]
        names_axis(ax, [f"{entry['from']} to {entry['to']}" for entry in rounds])
        ax.set_title(scale.replace("_", " "))
        ax.set_ylabel(unit)
        null_spans(ax, results, results["analysis"]["primary_bank"], scale, factor)
    for i, bank in enumerate(banks):
        axes[0].plot([], [], "osD^v"[i % 5], color=INK, markersize=5, label=bank)
    legend_above(figure, axes[0])
    return figure


def selectors(results: Results) -> Figure | None:
    """Selectors at small_k, overall and on divergent tasks, and some over k against the first survivor.

    The oracle is the ceiling; the diamond is a critic that learned permuted labels.
    """
    bank, model = results["analysis"]["primary_bank"], results["findings"]["critic_gain"].get("model")
    by_k = results["selection"].get(bank, {}).get(model, {})
    small = str(results["analysis"]["small_k"])
    if small not in by_k:
        return None
    names = list(by_k[small]["selectors"])
    figure, axes = panels(3, height=3.1, sharey=False)
    for ax, part, title in (
        (axes[0], "overall", "all tasks"),
        (axes[1], "on_divergent", "divergent tasks"),
    ):
        for position, name in enumerate(reversed(names)):
            entry, paint = by_k[small]["selectors"][name][part], SELECTORS.get(name, INK)
            if entry["estimate"] is None:
                continue
            interval_mark(ax, position, entry, paint, level=True)
        ax.set_yticks(range(len(names)), list(reversed(names)))
        ax.set_ylim(-0.6, len(names) - 0.4)
        ax.grid(axis="y", visible=False)
        ax.set_title(f"k = {small}, {title}")
        ax.set_xlabel("pick generalises, %")
    axes[2].axhline(0, color=INK, linewidth=0.9)
    for name in filter(names.__contains__, OVER_K):
        gains = {k: entry["selectors"][name]["gain"] for k, entry in by_k.items()}
        style = (0, (4, 2)) if name == "ideal_critic" else "-"
        band(axes[2], gains, SELECTORS[name], name, style=style)
    for entry in results["controls"]["critic"]:
        if (entry["bank"], list(entry["models"])) == (bank, ["permuted_critic"]):
            interval_mark(axes[2], int(small), entry, INK, marker="D", size=5)
    axes[2].set_title("by k, same colours")
    axes[2].set_ylabel("minus first survivor, points")
    k_axis(axes[2], by_k)
    return figure


def divergence(results: Results) -> Figure | None:
    """Share of groups of k whose survivors disagree: where, and only where, a selector matters."""
    banks = [bank for bank, models in results["divergence"].items() if any(models.values())]
    if not banks:
        return None
    figure, axes = panels(len(banks), height=2.8, sharey=True)
    for ax, bank in zip(axes, banks, strict=True):
        longest: dict[str, Any] = {}
        for model, by_k in results["divergence"][bank].items():
            if not by_k:
                continue
            band(ax, by_k, colour(results, model), model, marker="o")
            longest |= by_k
        ax.set_title(bank)
        ax.set_ylim(bottom=0)
        k_axis(ax, longest)
    axes[0].set_ylabel("divergent tasks, %")
    legend_above(figure, axes[0])
    return figure


def visible_fit(results: Results) -> Figure | None:
    """visible-fit@k above pass@k for gen_v0 and the last round: what fits without generalising."""
    models = list(dict.fromkeys((results["sequence"][1], results["sequence"][-1])))
    banks = list(results["pass_at_k"])
    figure, axes = panels(len(banks), height=2.9, sharey=True)
    for ax, bank in zip(axes, banks, strict=True):
        for model in models:
            for name, what, style in (
                ("visible_fit_at_k", "fits", (0, (4, 2))),
                ("pass_at_k", "generalises", "-"),
            ):
                shares, ends = (results[part][bank][model] for part in (name, f"{name}_interval"))
                by_k = {k: {"estimate": shares[k], "interval": ends[k]} for k in shares}
                band(ax, by_k, colour(results, model), f"{model} {what}", style=style)
        ax.set_title(bank)
        ax.set_ylim(0, 100)
        k_axis(ax, by_k)
    axes[0].set_ylabel("% of tasks")
    legend_above(figure, axes[0])
    return figure


def diversity(results: Results) -> Figure | None:
    """Distinct correct programs a solved task: plain and rarefied counts, in the data and on the banks."""
    data, banks = results["diversity"]["data"], results["diversity"]["banks"]
    banks = {bank: entry for bank, entry in banks.items() if entry["tasks"]}
    if not data and not banks:
        return None
    m = results["analysis"]["diversity_samples"]
    groups = []
    for title, column in (("STaR data, plain count", "distinct"), (f"STaR data, {m} samples", "rarefied")):
        if data:
            groups.append((title, {name: entry[column] for name, entry in data.items()}, "solved tasks"))
    for bank, entry in banks.items():
        groups.append((f"{bank}, {m} samples", entry["models"], f"{entry['tasks']} tasks"))
    figure, axes = panels(len(groups), height=2.5, sharey=False)
    for ax, (title, entries, over) in zip(axes, groups, strict=True):
        for position, (name, entry) in enumerate(entries.items()):
            paint = colour(results, name) if name in results["models"] else INK
            if entry["interval"] is not None and None not in entry["interval"]:
                ax.plot([position, position], entry["interval"], color=paint, linewidth=2, alpha=0.55)
            if entry["estimate"] is not None:
                ax.plot(position, entry["estimate"], "o", color=paint, markersize=6)
        names_axis(ax, list(entries))
        ax.set_ylim(1, max(1.1, ax.get_ylim()[1]))  # a solved task has one program at least
        ax.set_title(title, fontsize=9)
        ax.set_xlabel(over)
    axes[0].set_ylabel("distinct programs")
    return figure


def learning_curves(results: Results) -> Figure | None:
    """The loss of every training stage over its updates, a line a trajectory."""
    stages = [stage for stage in results["stages"] if max(map(len, stage["losses"])) > 1]
    if not stages:
        return None
    figure, axes = panels(len(stages), height=2.1, sharey=False)
    for ax, stage in zip(axes, stages, strict=True):
        paint = colour(results, stage["name"]) if stage["name"] in results["models"] else INK
        width = 1.2 if len(stage["losses"]) == 1 else 0.7
        for losses in stage["losses"]:
            end = stage["updates"] or len(losses)
            at = [end * (i + 1) / len(losses) for i in range(len(losses))]
            ax.plot(at, losses, color=paint, linewidth=width)
        ax.set_title(stage["name"])
        ax.set_xlabel("updates")
    axes[0].set_ylabel("loss")
    return figure


FIGURES: dict[str, Callable[[Results], Figure | None]] = {
    "pass_at_k": pass_at_k,
    "change_at_k": change_at_k,
    "control_changes": control_changes,
    "round_gains": round_gains,
    "headroom": headroom,
    "control_reach": control_reach,
    "selectors": selectors,
    "rivals": selector_plots.rivals,
    "reliability": selector_plots.reliability,
    "divergence": divergence,
    "critic_variants": critic_variants,
    "forecast": forecast_plots.forecast,
    "residual": forecast_plots.residual,
    "visible_fit": visible_fit,
    "diversity": diversity,
    "learning_curves": learning_curves,
}


def pretraining(rows: Sequence[dict[str, float]], path: Path) -> None:
    """Writes a PNG of the loss and the answers' accuracy over the steps of a pretraining's metrics."""
    with matplotlib.rc_context(STYLE):
        figure, axes = panels(2, height=2.4, sharey=False)
        curves = ("loss", "loss", 1), ("answer_accuracy", "next-token accuracy on programs, %", 100)
        for ax, (name, label, scale) in zip(axes, curves, strict=True):
            ax.plot([row["step"] for row in rows], [scale * row[name] for row in rows], color=START, lw=1.2)
            ax.set(title=label, xlabel="steps", ylim=(0, None))
        figure.savefig(path, dpi=180, metadata={"Software": None})


def draw(
    results: question.Results, directory: Path, questions: Sequence[question.Question]
) -> dict[str, str]:
    """Draw every figure that has data.

    Args:
        results: of `analysis.analyse`.
        directory: where <name>.png go.
        questions: those that were asked.

    Returns:
        name -> SVG text for the page.
    """
    drawn = {}
    answered = [one for one in questions if one.name in results.facts]
    of_questions = {name: make for one in answered for name, make in one.figures.items()}
    for name, make in (FIGURES | of_questions).items():
        with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
            figure = make(results)
            if figure is None:
                continue
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, for both files
            figure.savefig(directory / f"{name}.png", dpi=180, metadata={"Software": None})
            drawn[name] = svg(figure)
    return drawn
