"""The plan of a study: its table, its hours, its refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from constellation.experiments.plan import Speed, check_plan, print_plan, stage_plans
from constellation.runtime.errors import UserError
from tests.tiny_study import tiny_config, write_tiny_model


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def test_the_table_names_every_part_and_stage(model_dir: Path, capsys: pytest.CaptureFixture) -> None:
    more = {"temperatures__trajectories": 1, "temperatures__samples": 8}
    config = tiny_config(model_dir, memory__budget_gib=1.0, star__arm_max_atoms=4, **more)
    print_plan(config, "cpu", Speed(1e9, 1e9))
    printed = capsys.readouterr().out
    for word in ("weights", "adapter", "optimizer", "kv", "workspace", "budget: 1.0 GiB"):
        assert word in printed
    for name in ("gen_v0", "v1", "v1_4_atoms", "critic"):
        assert f"\n{name} " in printed
    # of four tasks: both models at two further temperatures and gen_v0 at the matched one; at three and two
    assert re.search(r"\ntemperature samples +20 tasks x 8 samples", printed)
    assert re.search(r"\ntemperature tuning +32 tasks x 32 samples", printed)


def test_hours_follow_the_work_and_the_speed(model_dir: Path) -> None:
    def seconds(speed: Speed, **changed: Any) -> dict[str, float]:
        config = tiny_config(model_dir, **changed)
        memory, work, rows, _ = check_plan(config, "cpu")
        return {stage.name: stage.seconds for stage in stage_plans(config, memory, work, rows, speed)}

    base = seconds(Speed(1e9, 1e9))
    assert seconds(Speed(2e9, 2e9)) == pytest.approx({name: value / 2 for name, value in base.items()})
    twice = seconds(Speed(1e9, 1e9), star__passes=2)
    assert twice["v1"] == pytest.approx(2 * base["v1"]) and twice["gen_v0"] == base["gen_v0"]
    more = seconds(Speed(1e9, 1e9), evaluation__samples=16)
    assert more["evaluation samples"] > base["evaluation samples"]  # prefill does not grow
    assert more["v1 samples"] == base["v1 samples"]


def test_a_study_that_cannot_fit_is_refused(model_dir: Path) -> None:
    with pytest.raises(UserError, match=r"memory\.budget_gib = 0\.0 does not hold"):
        check_plan(tiny_config(model_dir, memory__budget_gib=1e-4), "cpu")
