"""One task of a study, from its stored stages, which are found by what their records say."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from constellation.conductor import finished_stage, read_record
from constellation.domains.task import Task, examples_text, read_tasks, split
from constellation.experiments.config import BASE, CRITIC, START
from constellation.experiments.files import SCORES, TASKS, VERIFICATION, arrays_of, samples_of
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet

SHOWN = 8  # candidates a model

Recipes = dict[str, dict[str, Any]]  # stage -> its recipe: name, fields, inputs and version


def inspect_task(workdir: str, wanted: str, trajectory: int = 0) -> None:
    """Prints a task's examples and, for every model that was sampled on it, its candidates and verdicts.

    Raises:
        UserError: no such study, task or trajectory.
    """
    recipes = _recipes(workdir)
    bank, index, task = _find(workdir, recipes, wanted)
    stages, file, judge = _sampled(recipes, bank), SCORES, "critic"
    if not stages:
        stages, file, judge = _sampled_peers(recipes, bank), VERIFICATION, "peer"
    names = {name for models in stages.values() for name in models.values()}
    sets = {name: samples_of(finished_stage(workdir, name)) for name in names}
    most = max(map(len, sets.values()), default=1)
    if trajectory >= most:
        raise UserError(f"{workdir} holds trajectories 0 to {most - 1}, and not {trajectory}")
    print(f"task {task.id} ({bank}:{index}), {task.atoms} atoms, inputs: {task.family}")
    print(f"secret program  {task.program}\n")
    for seed, models in stages.items():
        # controls have fewer trajectories than rounds; the base has one
        own = {
            model: (name, 0 if model == BASE else trajectory)
            for model, name in models.items()
            if model == BASE or trajectory < len(sets[name])
        }
        for number, (model, (name, r)) in enumerate(own.items()):
            samples = sets[name][r]
            if number == 0:
                _print_examples(task, seed, samples.meta["tasks"]["visible"])
            scored = _scored(recipes, bank, name)
            scores = arrays_of(finished_stage(workdir, scored), file)[r] if scored else None
            _print_candidates(model, samples, index, scores, judge)


def _recipes(workdir: str) -> Recipes:
    """The recipes of the finished stages; the directory of one that is running has a dot in its name."""
    found = sorted(file.parent for file in Path(workdir, "stages").glob("*/stage.json"))
    return {path.name: read_record(path)["recipe"] for path in found if "." not in path.name}


def _find(workdir: str, recipes: Recipes, wanted: str) -> tuple[str, int, Task]:
    name, _, number = wanted.partition(":")
    stages = [
        stage
        for stage, recipe in recipes.items()
        if stage.startswith("bank_") and "_tuning_" not in stage and not recipe["inputs"]
    ]
    drawn = [stage.removeprefix("bank_") for stage in stages] or ["easy"]
    banks = {bank: read_tasks(finished_stage(workdir, f"bank_{bank}").path / TASKS) for bank in drawn}
    if name in banks and number.isdecimal() and int(number) < len(banks[name]):
        return name, int(number), banks[name][int(number)]
    for bank, tasks in banks.items():
        for index, task in enumerate(tasks):
            if wanted in (task.id, task.signature):
                return bank, index, task
    size = min(map(len, banks.values()))
    raise UserError(
        f"no task {wanted!r}: give <bank>:<0..{size - 1}> with a bank of {', '.join(banks)}, or a task's id"
    )


def _sampled(recipes: Recipes, bank: str) -> dict[int, dict[str, str]]:
    """Split seed -> model -> its judged samples; the seed of most models first, models in order of training.

    Two stages may hold the same draws, since a round is sampled further to be compared with controls. Then it
    is the stage of more trajectories or, of as many, of fewer samples.
    """
    found: dict[int, dict[str, str]] = {}
    judged = {
        stage: drawn
        for stage, drawn in _judged(recipes, bank).items()
        if drawn["fields"]["purpose"] == "evaluation"
    }
    for stage, drawn in sorted(judged.items(), key=lambda pair: _extent(pair[1]["fields"])):
        fields, model = drawn["fields"], drawn["fields"]["arm"]
        if model == BASE or model in drawn["inputs"]:  # and not prompted in another way
            found.setdefault(fields["tasks"]["split_seed"], {}).setdefault(model, stage)
    return {
        seed: {
            model: found[seed][model]
            for model in sorted(found[seed], key=lambda name: (name != BASE, name != START, len(name), name))
        }
        for seed in sorted(found, key=lambda seed: (-len(found[seed]), seed))
    }


def _judged(recipes: Recipes, bank: str) -> Recipes:
    """Stages of a bank's judged samples -> the recipes of their draws."""
    return {
        stage: recipes[made]
        for stage, recipe in recipes.items()
        for made in recipe["inputs"]
        if set(recipe["inputs"]) == {f"bank_{bank}", made} and "purpose" in recipes[made]["fields"]
    }


def _extent(fields: dict[str, Any]) -> tuple[int, int]:
    """By which stages of the same draws are sorted: more trajectories first, then fewer samples."""
    (samples,) = (value for field, value in fields.items() if field.endswith(".samples"))
    return -fields["trajectories"], samples


def _sampled_peers(recipes: Recipes, bank: str) -> dict[int, dict[str, str]]:
    """As `_sampled` in a study of peers: "<model>_<peer>" -> its judged samples, by name."""
    found: dict[int, dict[str, str]] = {}
    for stage, drawn in _judged(recipes, bank).items():
        if stage.startswith("samples_"):
            model = stage.removeprefix("samples_")
            found.setdefault(drawn["fields"]["tasks"]["split_seed"], {})[model] = stage
    return found


def _scored(recipes: Recipes, bank: str, samples: str) -> str | None:
    """The stage of what the critic, or a peer itself, says of these samples."""
    own, read = samples.replace("samples_", "verification_", 1), {f"bank_{bank}", samples}
    scored = (stage for stage, recipe in recipes.items() if set(recipe["inputs"]) == {CRITIC} | read)
    return next(scored, own if own in recipes else None)


def _print_examples(task: Task, seed: int, visible: int) -> None:
    shown, held_out = split(task, seed, visible)
    print(f"split seed {seed}")
    for label, examples in (("visible", shown), ("held out", held_out)):
        for example in examples:
            print(f"  {label:<9} {examples_text([example])}")
    print()


def _print_candidates(
    model: str, samples: SampleSet, index: int, scores: np.ndarray | None, judge: str = "critic"
) -> None:
    counts = Counter(samples.program[index].tolist())
    solved = sum(count for row, count in counts.items() if samples.right[row])
    print(f"{model}: {solved} of {samples.n} samples generalise, {len(counts)} distinct programs")
    picks = _picks([row for row in counts if samples.fits[row]], scores, judge)
    # what is handed in, then the other survivors, then what is drawn most often
    order = sorted(counts, key=lambda row: (row not in picks, not samples.fits[row], -counts[row], row))
    for row in order[:SHOWN]:
        verdict = (
            "generalises"
            if samples.right[row]
            else "fits the visible examples only"
            if samples.fits[row]
            else "wrong"
            if samples.valid[row]
            else "no program"
        )
        probes = f", {samples.probe_correct[row]} probes right" if samples.probe_correct[row] >= 0 else ""
        score = f", {judge} {scores[row]:+.2f}" if scores is not None and np.isfinite(scores[row]) else ""
        picked = f"  <- {', '.join(picks[row])}" if row in picks else ""
        print(f"  {counts[row]:>4} x  {samples.text[row]}\n          {verdict}{probes}{score}{picked}")
    if len(order) > SHOWN:
        print(f"          ... and {len(order) - SHOWN} more")
    print()


def _picks(survivors: list[int], scores: np.ndarray | None, judge: str = "critic") -> dict[int, list[str]]:
    """Which survivors are handed in of all samples: rows are in order of first appearance."""
    picks: dict[int, list[str]] = {}
    if survivors:
        picks.setdefault(min(survivors), []).append("first survivor")
        if scores is not None:
            best = max(survivors, key=lambda row: (scores[row], -row))
            picks.setdefault(best, []).append(f"the {judge}'s pick")
    return picks
