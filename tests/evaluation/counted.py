"""A study given by how many samples of each task are correct, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import comb

from constellation.evaluation.null import NullPools
from constellation.evaluation.study import AnalysisConfig, SetKey, StudyResults, TaskInfo
from constellation.samples import SampleSet
from tests.evaluation.synthetic import sample_set

Counts = Sequence[Sequence[int]]  # of each trajectory and task


def counted(counts: Sequence[int], n: int) -> SampleSet:
    """A set whose task t has counts[t] correct samples of n, in no particular place."""
    return sample_set(
        [["bad"] * ((n - c) // 2) + ["right a"] * c + ["bad"] * (n - c - (n - c) // 2) for c in counts]
    )


def counted_study(
    counts: Mapping[str, Counts], n: int | Mapping[str, int] = 32, fresh: Counts | None = None
) -> StudyResults:
    """One bank, "hard".

    Args:
        counts: model -> correct samples; "theta0" and "gen_v0" first, then the rounds.
        n: samples a task, of each model.
        fresh: correct ones of as many samples of gen_v0 again.
    """
    trajectories, tasks = len(counts["gen_v0"]), len(counts["gen_v0"][0])
    sizes = {model: n if isinstance(n, int) else n[model] for model in counts}
    own = sizes["gen_v0"]
    pools = {SetKey("hard", "gen_v0", 1, k): counted(row, own) for k, row in enumerate(fresh or ())}
    return StudyResults(
        base="theta0",
        start="gen_v0",
        rounds=tuple(counts)[2:],
        tasks={"hard": [TaskInfo(f"task{t}", 3, (), True, "x", (), ()) for t in range(tasks)]},
        samples={
            SetKey("hard", model, 1, k): counted(row, sizes[model])
            for model, rows in counts.items()
            for k, row in enumerate(rows)
        },
        primary_split=1,
        trajectories=trajectories,
        parts={"null": NullPools(pools)} if fresh else {},
        analysis=AnalysisConfig(large_k=16, resamples=500),
    )


def chance(c: int, k: int, n: int = 32) -> float:
    """pass@k by its definition."""
    return 1 - comb(n - c, k) / comb(n, k)
