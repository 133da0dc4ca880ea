"""The plan of a study: its table, its hours, its refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from constellation.conductor import PlannedStages
from constellation.conductor import finished_stage as stage_of
from constellation.domains.domain import load_domain
from constellation.experiments.files import samples_of
from constellation.experiments.plan import Speed, check_fits, plan, print_plan
from constellation.experiments.questions import graph
from constellation.experiments.run import run
from constellation.experiments.study import Study
from constellation.experiments.work import Sampling
from constellation.model.model import check_model
from constellation.runtime.errors import UserError
from tests.tiny_study import Untrained, digests_of, tiny_config, write_tiny_model


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def test_the_table_names_every_part_and_stage(model_dir: Path, capsys: pytest.CaptureFixture) -> None:
    config = tiny_config(model_dir, memory__budget_gib=1.0, questions="arm,temperature")
    print_plan(config, "cpu", Speed(1e9, 1e9))
    printed = capsys.readouterr().out
    for word in ("weights", "adapter", "optimizer", "kv", "workspace", "budget: 1.0 GiB"):
        assert word in printed
    for name in ("gen_v0", "draws_v1_samples", "v1", "v1_4_atoms", "critic"):
        assert f"\n{name} " in printed
    assert re.search(r"\ndraws_samples_v1_hard_1234 +4 tasks x 8 samples", printed)
    assert re.search(r"\nquestion: temperature +\d+ stages +\d", printed)


def test_a_plan_is_the_graph_that_runs(model_dir: Path, tmp_path: Path) -> None:
    """Every stage of the study with the digest that it will have, and the work that its files show."""
    config = tiny_config(model_dir, questions="temperature")
    run(config, str(tmp_path), compute=Untrained(tmp_path))
    hashes = [check_model(model_dir, "int4:32")]
    conductor = PlannedStages()
    graph(Study(config, conductor, load_domain("trapdoor"), hashes))
    assert {name: stage.digest for name, stage in conductor.stages.items()} == digests_of(tmp_path)
    for name, stage in conductor.stages.items():
        if isinstance(stage.work, Sampling):
            sets = samples_of(stage_of(tmp_path, name))
            assert stage.work == Sampling(sum(len(own.task_ids) for own in sets), sets[0].n)


def test_hours_follow_the_work_and_the_speed(model_dir: Path) -> None:
    def seconds(speed: Speed, **changed: Any) -> dict[str, float]:
        config = tiny_config(model_dir, **changed)
        found = plan(config, "cpu")
        stages = [stage for part in found.stages.values() for stage in part]
        return {stage.name: found.seconds(stage.work, config, speed) for stage in stages}

    base = seconds(Speed(1e9, 1e9))
    assert seconds(Speed(2e9, 2e9)) == pytest.approx({name: value / 2 for name, value in base.items()})
    twice = seconds(Speed(1e9, 1e9), star__passes=2)
    assert twice["v1"] == pytest.approx(2 * base["v1"]) and twice["gen_v0"] == base["gen_v0"] > 0
    more, hard = seconds(Speed(1e9, 1e9), evaluation__samples=16), "draws_samples_v1_hard_1234"
    assert more[hard] > base[hard] > 0  # prefill does not grow
    assert more["draws_v1_samples"] == base["draws_v1_samples"] > 0
    assert more["scores_v1_hard_1234"] > base["scores_v1_hard_1234"] > 0


def test_a_study_that_cannot_fit_is_refused(model_dir: Path) -> None:
    with pytest.raises(UserError, match=r"memory\.budget_gib = 0\.0 does not hold"):
        check_fits(tiny_config(model_dir, memory__budget_gib=1e-4), "cpu")
