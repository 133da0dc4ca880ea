from pathlib import Path

import pytest

from tests.tiny_study import write_tiny_model
from third_party.benchmarks import trajectories


def test_every_kind_of_work_is_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TASKS": 2, "POOL": 4, "SAMPLES": 2, "UPDATES": 1, "BATCH": 2}.items():
        monkeypatch.setattr(trajectories, name, value)
    rows = trajectories.trajectories_benchmark(write_tiny_model(tmp_path), trajectories=2, repeats=1)
    assert [row.work for row in rows] == ["sampling", "scoring", "updates"]
    assert all(row.alone > 0 and row.together > 0 for row in rows)
