from pathlib import Path

from tests.tiny_study import write_tiny_model
from third_party.benchmarks.trajectories import Sizes, trajectories_benchmark


def test_every_kind_of_work_is_timed(tmp_path: Path) -> None:
    sizes = Sizes(tasks=2, samples=2, updates=2, batch=2)
    rows = list(trajectories_benchmark(write_tiny_model(tmp_path), trajectories=2, repeats=1, sizes=sizes))
    assert [row.work for row in rows] == ["sampling", "scoring", "updates"]
    assert all(row.alone > 0 and row.together > 0 for row in rows)
