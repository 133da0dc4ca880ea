"""What refreshed and other critics are trained on and what they judge, on a study that is not trained.

Two trajectories, of which the first has variants. The critic on the other base alone is trained, and asked.
"""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from constellation import critic
from constellation.conductor import finished_stage, read_record
from constellation.domains.task import Split, Task, read_tasks, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.experiments.compute import Compute
from constellation.experiments.files import SCORES, TASKS, numbered, samples_of
from constellation.experiments.run import run
from constellation.model.model import Generator, Model, check_model, load_model
from constellation.samples import SampleSet
from constellation.selftraining import finetune
from constellation.selftraining.batches import TrainingExample
from tests.launch.test_report import redraw
from tests.tiny_study import Untrained, tiny_config, write_tiny_model

OTHER, REFRESHED = "other_base_critic", "refreshed_critic_v1"


class Training(NamedTuple):
    """What a training was given, and the bases that were in memory."""

    model: Path
    held: set[Path]
    trajectories: int
    pools: list[list[TrainingExample]]
    updates: int


class Ran(NamedTuple):
    """A study, with what its trainings were given."""

    workdir: Path
    bases: list[Path]
    trainings: dict[str, Training]
    findings: dict[str, Any]

    def samples(self, stage: str) -> SampleSet:
        return samples_of(finished_stage(self.workdir, stage))[0]

    def tasks(self, stage: str, file: str = numbered(TASKS, 0)) -> list[Task]:
        return read_tasks(self.workdir / "stages" / stage / file)

    def record(self, stage: str) -> dict[str, Any]:
        return read_record(self.workdir / "stages" / stage)


def divided(task: Task) -> Split:
    return split(task, 1234)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    bases = [
        write_tiny_model(tmp_path_factory.mktemp("model")),
        write_tiny_model(tmp_path_factory.mktemp("other"), seed=1, hidden_size=64),
    ]
    workdir = tmp_path_factory.mktemp("study")
    trainings: dict[str, Training] = {}
    loaded: list[weakref.ref[Model]] = []

    class Noted(Untrained):
        def finetune(self, generator, pools, training, address, directory, metadata):
            model = generator.model
            loaded.append(weakref.ref(model))
            gc.collect()
            held = {base.dir for base in (ref() for ref in loaded) if base is not None}
            sizes = generator.trajectories, pools, training.updates
            trainings[metadata["name"]] = Training(model.dir, held, *sizes)
            train = Compute.finetune if metadata["name"] == OTHER else Untrained.finetune
            return train(self, generator, pools, training, address, directory, metadata)

        def critic_scores(self, critics, domain, tasks, samples, split):
            score = Compute.critic_scores if critics.model.dir == bases[1] else Untrained.critic_scores
            return score(self, critics, domain, tasks, samples, split)

    config = tiny_config(
        bases[0],
        trajectories=2,
        tasks__banks="hard",
        critics__model_dir=bases[1],
        questions="critics,other_base",
        critics__visible="1",
    )
    run(config, str(workdir), compute=Noted(workdir))
    return Ran(workdir, bases, trainings, json.loads((workdir / "findings.json").read_text()))


def same_examples(model: Model, pool: list[TrainingExample], tasks: list[Task], samples: SampleSet) -> bool:
    expected = critic.critic_examples(model, trapdoor, tasks, samples, divided)
    return [example.prompt.tolist() for example in pool] == [own.prompt.tolist() for own in expected] and [
        [answer.tolist() for answer in example.answers] for example in pool
    ] == [[answer.tolist() for answer in own.answers] for own in expected]


def test_each_is_trained_as_the_fixed_one_in_the_first_trajectory(ran: Ran) -> None:
    fixed = ran.trainings["critic"]
    assert fixed.trajectories == 2
    for name, base in ((REFRESHED, ran.bases[0]), (OTHER, ran.bases[1])):
        training = ran.trainings[name]
        assert (training.model, training.trajectories, training.updates) == (base, 1, fixed.updates)
        assert training.held == {base}


def test_the_refreshed_one_learns_from_the_last_rounds_candidates(ran: Ran) -> None:
    samples, tasks = ran.samples(f"{REFRESHED}_samples"), ran.tasks("tasks_critic")
    assert samples.meta["adapter"] == ran.record("v1")["digest"]
    assert list(samples.task_ids) == [task.id for task in tasks]
    assert same_examples(load_model(ran.bases[0]), ran.trainings[REFRESHED].pools[0], tasks, samples)
    inputs = set(ran.record(f"scores_{REFRESHED}_v1_hard_1234")["recipe"]["inputs"])
    assert inputs == {REFRESHED, "bank_hard", "samples_v1_hard_1234"}


def test_the_other_base_has_the_fixed_ones_candidates_and_is_asked_itself(ran: Ran) -> None:
    other, tasks = load_model(ran.bases[1], "int4:32"), ran.tasks("tasks_critic")
    assert same_examples(other, ran.trainings[OTHER].pools[0], tasks, ran.samples("critic_samples"))
    stage = f"scores_{OTHER}_gen_v0_hard_1234"
    own = np.load(ran.workdir / "stages" / stage / numbered(SCORES, 0))
    adapters, _ = finetune.load_adapters(ran.workdir / "stages" / OTHER)
    assert any(np.asarray(pair["b"]).any() for pair in adapters.weights.values())
    bank, candidates = ran.tasks("bank_hard", TASKS), ran.samples("samples_gen_v0_hard_1234")
    (expected,) = critic.critic_scores(Generator(other, adapters), trapdoor, bank, [candidates], divided)
    np.testing.assert_allclose(own, expected, rtol=1e-4)
    assert np.isfinite(own).any()
    hashes = [check_model(base, "int4:32") for base in ran.bases]
    for name, digest in (("critic", hashes[0]), (OTHER, hashes[1]), (stage, hashes[1])):
        assert ran.record(name)["recipe"]["fields"]["model"] == {"hash": digest}


def test_the_report_has_them_and_is_drawn_again_without_either_base(ran: Ran) -> None:
    found = ran.findings["facts"]["critics"]
    assert found["trajectories"] == 1 and list(found["visible"]) == ["1", "2"]
    assert found["critics"] == {REFRESHED: "v1", OTHER: "gen_v0"}
    leads = [row for row in ran.findings["entries"] if row.get("of") == f"{REFRESHED} minus critic"]
    assert {row["estimate"] for row in leads} == {0}  # both stand-ins say the same of every candidate
    stages = {stage["name"]: stage for stage in ran.findings["facts"]["training"]["stages"]}
    assert stages[REFRESHED]["samples"] == 8 * 4 and stages[OTHER]["samples"] is None
    assert ran.findings["methods"]["samples"]["variants"] == {"gen_v0": 4 * 4}
    before = {file: (ran.workdir / file).read_bytes() for file in ("report.html", "findings.json")}
    aside = [(base, base.rename(f"{base}.aside")) for base in ran.bases]
    again = redraw(ran.workdir)
    for base, moved in aside:
        moved.rename(base)
    assert again.returncode == 0, again.stderr
    assert {file: (ran.workdir / file).read_bytes() for file in before} == before
