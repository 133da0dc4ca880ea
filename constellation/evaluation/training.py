"""What was trained on what: tasks by role, samples, and every training stage in figures."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from constellation.evaluation.drawing import INK, colour, panels
from constellation.evaluation.question import Answer, Question, Results
from constellation.evaluation.statistics import Bootstrap
from constellation.evaluation.study import StageSummary, StudyResults

COUNTS = ("tasks", "samples", "kept_tasks", "kept", "updates", "answer_tokens")


def training(study: StudyResults, part: None, bootstrap: Bootstrap) -> Answer:
    """The training stages in order, with counts averaged over trajectories and the losses of each."""
    by_name: dict[str, list[StageSummary]] = {}
    for stage in study.stages:
        by_name.setdefault(stage.name, []).append(stage)
    stages = [
        {"name": name, "role": group[0].role, "losses": [list(stage.losses) for stage in group]}
        | {count: mean_count([getattr(stage, count) for stage in group]) for count in COUNTS}
        for name, group in by_name.items()
    ]
    return Answer([], {"stages": stages, "roles": study.roles})


def mean_count(values: Sequence[int | None]) -> int | None:
    """The rounded mean of the values that are not None, if there are any."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known)) if known else None


def learning_curves(results: Results) -> Figure | None:
    """The loss of every training stage over its updates, a line for each trajectory."""
    study = results.study
    stages = [stage for stage in results.facts[QUESTION.name]["stages"] if max(map(len, stage["losses"])) > 1]
    if not stages:
        return None
    figure, axes = panels(len(stages), height=2.1, sharey=False)
    for ax, stage in zip(axes, stages, strict=True):
        paint = colour(study, stage["name"]) if stage["name"] in study.models else INK
        width = 1.2 if len(stage["losses"]) == 1 else 0.7
        for losses in stage["losses"]:
            end = stage["updates"] or len(losses)
            at = [end * (i + 1) / len(losses) for i in range(len(losses))]
            ax.plot(at, losses, color=paint, linewidth=width)
        ax.set_title(stage["name"])
        ax.set_xlabel("updates")
    axes[0].set_ylabel("loss")
    return figure


QUESTION = Question(
    "training", "Tasks and training", training, {"learning_curves": learning_curves}, always=True
)
