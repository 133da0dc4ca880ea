"""What is sampled at which temperature, on a study whose trainings and samples are stand-ins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from constellation.conductor import finished_stage
from constellation.domains.task import read_tasks
from constellation.evaluation.temperature import match, solved_by_one
from constellation.experiments.check import check
from constellation.experiments.files import samples_of
from constellation.experiments.run import run
from constellation.generator import Sample
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from launch.common import load_config
from tests.tiny_study import NANO, Untrained, leave_trained, tiny_config, write_tiny_model

FIELDS = {
    "trajectories": 2,
    "tasks__banks": "hard",
    "questions": "temperature",
    "temperature__matching": "0.5",
    "temperature__samples": 8,
    "temperature__tuning_samples": 16,
}
MODELS = ("gen_v0", "v1")


class Ran(NamedTuple):
    """A study, with the temperature and the samples a task of every call of the sampler."""

    workdir: Path
    calls: list[tuple[float, int]]
    findings: dict[str, Any]

    def sets(self, stage: str) -> list[SampleSet]:
        return samples_of(finished_stage(self.workdir, stage))

    def recipe(self, stage: str) -> dict[str, Any]:
        return json.loads((self.workdir / "stages" / stage / "stage.json").read_text())["recipe"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Ran:
    model_dir = write_tiny_model(tmp_path_factory.mktemp("model"))
    workdir = tmp_path_factory.mktemp("study")
    calls: list[tuple[float, int]] = []

    class Noted(Untrained):
        def finetune(self, generator, pools, training, address, directory, metadata):
            """Every training leaves the adapter a little larger."""
            moved = jax.tree.map(lambda x: x + 1, generator.adapters)
            return leave_trained(moved, pools, training.updates, address, directory, metadata)

        def sample(self, generator, prompts, task_ids, address, config, rows, progress):
            """Right the more often the larger the adapter and the lower the temperature."""
            calls.append((config.temperature, config.n))
            model, adapters = generator.model, generator.adapters
            files = workdir.rglob("stages/*/tasks*.jsonl")
            programs = {task.id: task.program for file in files for task in read_tasks(file)}
            large = 0.0 if adapters is None else float(np.mean(np.abs(jax.tree.leaves(adapters.weights)[0])))
            correct = round(config.n * min(1, 0.25 * (1 + large) / config.temperature))

            def answers(task_id: str) -> list[Sample]:
                texts = [programs[task_id]] * correct + ["no program"] * (config.n - correct)
                return [Sample(np.array(model.tokenizer.encode(text), np.int32), True) for text in texts]

            progress.update(sum(map(len, task_ids)) * config.n)
            return [[answers(task_id) for task_id in ids] for ids in task_ids]

    run(tiny_config(model_dir, **FIELDS), str(workdir), compute=Noted(workdir))
    return Ran(workdir, calls, json.loads((workdir / "findings.json").read_text()))


def stage_name(model: str, temperature: float, bank: str) -> str:
    return f"temperature_{temperature:g}_{model}_{bank}".replace(".", "_")


def test_each_stage_is_sampled_at_its_own_temperature_and_nothing_twice(ran: Ran) -> None:
    stages = {
        path.name for path in (ran.workdir / "stages").iterdir() if path.name.startswith("temperature_")
    }
    at = ran.findings["facts"]["temperature"]["matched"]["temperature"]
    hard = {(model, value) for model in MODELS for value in (0.7, 1.4)}
    tuning = {(model, value) for model in MODELS for value in (0.7, 1.0, 1.4)} | {("gen_v0", 0.5)}
    banks = {(*key, "hard", 8) for key in hard} | {(*key, "tuning_hard", 16) for key in tuning}
    named: dict[str, tuple[str, float | str, float, int]] = {}
    for model, value, bank, n in banks:
        named[stage_name(model, value, bank)] = model, value, value, n
    named["temperature_matched_gen_v0_hard"] = ("gen_v0", "matched_temperature", at, 8)
    assert stages == named.keys()
    for stage, (model, said, value, n) in named.items():
        fields = ran.recipe(f"draws_{stage}")["fields"]
        assert (fields["sampling"]["temperature"], fields["arm"]) == (said, model)
        (only,) = ran.sets(stage)
        assert only.n == n and only.meta["sampling"]["temperature"] == value
        assert (value, n) in ran.calls
    assert ran.calls.count((at, 8)) == 1


def test_other_stages_keep_the_temperature_of_the_config(ran: Ran) -> None:
    fields = ran.recipe("draws_samples_v1_hard_1234")["fields"]
    assert fields["sampling"]["temperature"] == 1.0
    assert "temperature.samples" not in fields and fields["purpose"] == "evaluation"


def test_the_matched_temperature_is_where_the_tuning_tasks_say(ran: Ran) -> None:
    stored = json.loads((ran.workdir / "stages/matched_temperature/matched_temperature.json").read_text())
    tuning = {
        (model, value): ran.sets(stage_name(model, value, "tuning_hard"))
        for model, value in [*((model, t) for model in MODELS for t in (0.7, 1.0, 1.4)), ("gen_v0", 0.5)]
    }
    found = match(solved_by_one(tuning, "gen_v0"), solved_by_one(tuning, "v1")[1.0])
    assert stored == {"temperature": round(found.temperature, 3), "clipped": found.clipped}
    assert 0.5 < found.temperature < 1.0 and not found.clipped


def test_the_report_has_them(ran: Ran) -> None:
    found = ran.findings["facts"]["temperature"]
    assert list(found["crossover"]) == ["0.7", "1", "1.4"] and found["trajectories"] == 1
    assert list(found["best"]) == ["1", "2", "4"]
    assert {at["gen_v0"] for at in found["best"].values()} == {0.7}
    assert found["tuning_tasks"] == 4 and ran.findings["facts"]["training"]["roles"]["tuning"] == 4
    page = (ran.workdir / "report.html").read_text()
    assert '<h2 id="temperature">' in page and "temperature_1_4_v1_hard" in page


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"compared": "0.7,1.4"}, "compared"),
        ({"compared": "0.7,0.8,1.4"}, "compared"),
        ({"compared": "0.5,0.7,1.0"}, "compared"),
        ({"compared": "1.4,1.0,0.7"}, "compared"),
        ({"compared": "-1.0,1.0,1.4"}, "compared"),
        ({"matching": "0.5,0.4"}, "matching"),
        ({"matching": "0.7"}, "matching"),
        ({"samples": 7}, "samples"),
        ({"samples": 9}, "samples"),
        ({"tuning_samples": 1}, "tuning_samples"),
        ({"trajectories": 3}, "trajectories"),
        ({"trajectories": 0}, "trajectories"),
    ],
)
def test_what_cannot_work_is_refused(tmp_path: Path, fields: dict[str, Any], wrong: str) -> None:
    changed = FIELDS | {f"temperature__{name}": value for name, value in fields.items()}
    with pytest.raises(UserError, match=rf"config\.temperature\.{wrong} = "):
        check(tiny_config(tmp_path, **changed))


@pytest.mark.parametrize("mode", ["", ":quick"])
def test_the_full_study_has_them(mode: str) -> None:
    config = load_config(NANO.replace("nano.py", "nano_full.py") + mode, [])
    check(config)
    assert config.temperature.trajectories > 1  # an interval over one says nothing
