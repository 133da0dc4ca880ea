"""One task of a finished study, from its stored stages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from constellation.conductor import finished_stage, read_record
from constellation.domains.task import Task, examples_text, read_tasks, split
from constellation.experiments.config import BASE, START
from constellation.experiments.files import SCORES, TASKS, numbered, samples_of
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet

SHOWN = 8  # candidates a model


def inspect_task(workdir: str, wanted: str, trajectory: int = 0) -> None:
    """Prints a task's examples and, for every model that was sampled on it, its candidates and verdicts.

    Raises:
        UserError: no such study, task or trajectory.
    """
    bank, index, task = _find(workdir, wanted)
    sampled = {
        seed: {
            model: samples_of(finished_stage(workdir, f"samples_{model}_{bank}_{seed}")) for model in models
        }
        for seed, models in _sampled(workdir, bank).items()
    }
    most = max((len(each) for models in sampled.values() for each in models.values()), default=1)
    if trajectory >= most:
        raise UserError(f"{workdir} holds trajectories 0 to {most - 1}, and not {trajectory}")
    print(f"task {task.id} ({bank}:{index}), {task.atoms} atoms, inputs: {task.family}")
    print(f"secret program  {task.program}\n")
    for seed, models in sampled.items():
        # Controls have fewer trajectories than rounds; the base has one.
        own = {
            model: each[0 if model == BASE else trajectory]
            for model, each in models.items()
            if model == BASE or trajectory < len(each)
        }
        for number, (model, samples) in enumerate(own.items()):
            if number == 0:
                _print_examples(task, seed, samples.meta["tasks"]["visible"])
            _print_candidates(model, samples, index, _scores(workdir, f"{model}_{bank}_{seed}", trajectory))


def _find(workdir: str, wanted: str) -> tuple[str, int, Task]:
    name, _, number = wanted.partition(":")
    stages = sorted(path.parent.name for path in Path(workdir, "stages").glob("bank_*/stage.json"))
    drawn = [name.removeprefix("bank_") for name in stages if not name.startswith("bank_tuning_")] or ["easy"]
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


def _sampled(workdir: str, bank: str) -> dict[int, list[str]]:
    """Split seed -> the models sampled under it, in order of training; the seed of most models first."""
    models: dict[int, list[str]] = {}
    for record in Path(workdir, "stages").glob(f"samples_*_{bank}_*/stage.json"):
        model, seed = record.parent.name.removeprefix("samples_").rsplit(f"_{bank}_", 1)
        # Not the directory of a stage that is still running, nor samples of another bank with such an end.
        if seed.isdecimal() and f"bank_{bank}" in read_record(record.parent)["recipe"]["inputs"]:
            models.setdefault(int(seed), []).append(model)
    order = sorted(models, key=lambda seed: (-len(models[seed]), seed))
    return {
        seed: sorted(models[seed], key=lambda model: (model != BASE, model != START, len(model), model))
        for seed in order
    }


def _print_examples(task: Task, seed: int, visible: int) -> None:
    shown, held_out = split(task, seed, visible)
    print(f"split seed {seed}")
    for label, examples in (("visible", shown), ("held out", held_out)):
        for example in examples:
            print(f"  {label:<9} {examples_text([example])}")
    print()


def _scores(workdir: str, name: str, trajectory: int) -> np.ndarray | None:
    try:
        return np.load(finished_stage(workdir, f"scores_{name}").path / numbered(SCORES, trajectory))
    except UserError:
        return None


def _print_candidates(model: str, samples: SampleSet, index: int, scores: np.ndarray | None) -> None:
    counts = Counter(samples.program[index].tolist())
    solved = sum(count for row, count in counts.items() if samples.right[row])
    print(f"{model}: {solved} of {samples.n} samples generalise, {len(counts)} distinct programs")
    picks = _picks([row for row in counts if samples.fits[row]], scores)
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
        score = f", critic {scores[row]:+.2f}" if scores is not None and np.isfinite(scores[row]) else ""
        picked = f"  <- {', '.join(picks[row])}" if row in picks else ""
        print(f"  {counts[row]:>4} x  {samples.text[row]}\n          {verdict}{probes}{score}{picked}")
    if len(order) > SHOWN:
        print(f"          ... and {len(order) - SHOWN} more")
    print()


def _picks(survivors: list[int], scores: np.ndarray | None) -> dict[int, list[str]]:
    """Which survivors are handed in of all samples: rows are in order of first appearance."""
    picks: dict[int, list[str]] = {}
    if survivors:
        picks.setdefault(min(survivors), []).append("first survivor")
        if scores is not None:
            best = max(survivors, key=lambda row: (scores[row], -row))
            picks.setdefault(best, []).append("the critic's pick")
    return picks
