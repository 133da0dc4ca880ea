"""One task of a finished study, from its stored stages."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from constellation.conductor import Stage, finished_stage
from constellation.errors import UserError
from constellation.experiments.star_study import BANKS, SAMPLES, TASKS
from constellation.samples import SampleSet
from constellation.tasks.task import Task, read_tasks, split

SHOWN = 8  # candidates a model


def inspect_task(workdir: str, wanted: str) -> None:
    """Prints a task's examples and, for every model that was sampled on it, its candidates and verdicts.

    Raises:
        UserError: no such study or task.
    """
    bank, index, task = _find(workdir, wanted)
    print(f"task {task.id} ({bank}:{index}), {task.atoms} atoms, inputs: {task.family}")
    print(f"secret program  {task.program}\n")
    found = sorted(
        (path for path in Path(workdir, "stages").glob(f"samples_*_{bank}_*") if (path / SAMPLES).exists()),
        key=lambda path: path.stat().st_mtime,
    )
    shown_split = None
    for path in found:
        model, _, seed = path.name.removeprefix("samples_").rsplit("_", 2)
        stage = finished_stage(workdir, path.name)
        samples = SampleSet.load(stage.path / SAMPLES)
        if seed != shown_split:
            shown_split = seed
            _print_examples(task, int(seed), samples.meta["tasks"]["visible"])
        _print_candidates(model, samples, index, _scores(workdir, model, bank, seed))


def _find(workdir: str, wanted: str) -> tuple[str, int, Task]:
    name, _, number = wanted.partition(":")
    banks = {bank: read_tasks(finished_stage(workdir, f"bank_{bank}").path / TASKS) for bank in BANKS}
    if name in banks and number.isdigit() and int(number) < len(banks[name]):
        return name, int(number), banks[name][int(number)]
    for bank, tasks in banks.items():
        for index, task in enumerate(tasks):
            if wanted in (task.id, task.signature):
                return bank, index, task
    size = len(banks[BANKS[0]])
    raise UserError(f"no task {wanted!r}: give <bank>:<0..{size - 1}> with a bank of {', '.join(BANKS)}, or a task's id")


def _print_examples(task: Task, seed: int, visible: int) -> None:
    shown, held_out = split(task, seed, visible)
    print(f"split seed {seed}")
    for label, examples in (("visible", shown), ("held out", held_out)):
        for example in examples:
            print(f"  {label:<9} {example.inputs[0]!r} -> {example.output!r}")
    print()


def _scores(workdir: str, model: str, bank: str, seed: str) -> np.ndarray | None:
    try:
        stage: Stage = finished_stage(workdir, f"scores_{model}_{bank}_{seed}")
    except UserError:
        return None
    return np.load(stage.path / "scores.npy")


def _print_candidates(model: str, samples: SampleSet, index: int, scores: np.ndarray | None) -> None:
    counts = Counter(samples.program[index].tolist())
    solved = sum(count for row, count in counts.items() if samples.generalises[row])
    print(f"{model}: {solved} of {samples.n} samples generalise, {len(counts)} distinct")
    # survivors first, then what is drawn most often
    order = sorted(counts, key=lambda row: (-int(samples.fits[row]), -counts[row], row))
    for row in order[:SHOWN]:
        verdict = (
            "generalises"
            if samples.generalises[row]
            else "fits the visible examples"
            if samples.fits[row]
            else "wrong"
            if samples.parsed[row]
            else "no program"
        )
        probes = f", {samples.probe_correct[row]} probes right" if samples.probe_correct[row] >= 0 else ""
        score = f", critic {scores[row]:+.2f}" if scores is not None and np.isfinite(scores[row]) else ""
        print(f"  {counts[row]:>4} x  {samples.text[row]}\n          {verdict}{probes}{score}")
    print()
