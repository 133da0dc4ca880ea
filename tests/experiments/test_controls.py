"""What the controls are trained on and from where, on a study whose trainings are noted down, not run.

Two trajectories, of which the first has controls.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

from constellation.conductor import finished_stage
from constellation.domains.task import Task, read_tasks, split
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.evaluation.controls import DIFFERENCE
from constellation.evaluation.crossover import CHANGE
from constellation.evaluation.entries import Entries, rows_of
from constellation.evaluation.reach import MASS_CHANGE
from constellation.evaluation.selection import GAIN, LEAD
from constellation.experiments.files import TASKS, numbered, samples_of
from constellation.experiments.run import run
from constellation.model.lora import Adapter
from constellation.model.model import Model, load_model
from constellation.runtime.errors import UserError
from constellation.runtime.keys import Address
from constellation.samples import SampleSet
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.finetune import load_adapters
from tests.tiny_study import Untrained, leave_trained, tiny_config, write_tiny_model

CONTROLS = {"permuted", "fits_only", "continued", "own_withheld", "secret_solved", "secret"}
FIELDS = {
    "trajectories": 2,
    "questions": "controls,null,reach",
    "star__rounds": 2,
    "evaluation__middle_samples": 4,
    "evaluation__split_seeds": (7, 8, 1234),
    "selection__split_seeds": (1234, 7, 9),
    "null__samples": 8,
    "reach__samples": 2,
}


class Training(NamedTuple):
    """What a training was given."""

    start: Adapter
    pools: list[list[TrainingExample]]
    updates: int
    address: Address


class Ran(NamedTuple):
    """A study, with what its trainings were given."""

    workdir: Path
    model: Model
    trainings: dict[str, Training]
    findings: dict[str, Any]

    def entries(self) -> Entries:
        """The rows of the controls."""
        return rows_of(self.findings).where(question="controls")

    def tasks(self, stage: str) -> list[Task]:
        return read_tasks(self.workdir / "stages" / stage / numbered(TASKS, 0))

    def samples(self, stage: str) -> SampleSet:
        return samples_of(finished_stage(self.workdir, stage))[0]

    def programs(self, control: str, tasks: list[Task]) -> dict[str, list[str]]:
        """Task -> the programs it was trained on."""
        prompts = {tuple(self.model.chat(trapdoor.messages(split(task, 1234)))): task.id for task in tasks}
        (pool,) = self.trainings[control].pools
        return {
            prompts[tuple(example.prompt)]: [
                self.model.tokenizer.decode(answer[:-1]) for answer in example.answers
            ]
            for example in pool
        }


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> Ran:
    model_dir = write_tiny_model(tmp_path_factory.mktemp("model"))
    workdir = tmp_path_factory.mktemp("study")
    trainings: dict[str, Training] = {}

    class Noted(Untrained):
        def finetune(self, generator, pools, training, address, directory, metadata):
            trainings[metadata["name"]] = Training(generator.adapters, pools, training.updates, address)
            moved = jax.tree.map(lambda x: x + len(trainings), generator.adapters)
            return leave_trained(moved, pools, training.updates, address, directory, metadata)

    run(tiny_config(model_dir, **FIELDS), str(workdir), compute=Noted(workdir))
    findings = json.loads((workdir / "findings.json").read_text())
    return Ran(workdir, load_model(model_dir), trainings, findings)


def test_controls_are_one_round_from_gen_v0_in_the_first_trajectory(ran: Ran) -> None:
    start = load_adapters(ran.workdir / "stages/gen_v0")[0].weights
    for name in CONTROLS:
        training = ran.trainings[name]
        jax.tree.map(
            lambda own, all_: np.testing.assert_array_equal(own, all_[:1]), training.start.weights, start
        )
        assert training.updates == ran.trainings["v1"].updates == 2 or name.startswith("secret")
        assert training.address == Address(2, "batches", name) and len(training.pools) == 1
    assert len(ran.trainings["v1"].pools) == 2 and ran.trainings["permuted_critic"].updates == 2
    assert not any(pair["b"].any() for pair in ran.trainings["permuted_critic"].start.weights.values())


def test_the_round_under_other_verdicts(ran: Ran) -> None:
    tasks, samples = ran.tasks("tasks_v1"), ran.samples("v1_samples")
    v1 = ran.trainings["v1"].pools[0]
    assert len(ran.programs("permuted", tasks)) == len(v1) > 0
    fits = ran.programs("fits_only", tasks)
    expected = {
        str(samples.task_ids[t])
        for t, text, fit in zip(samples.task, samples.text, samples.fits, strict=True)
        if fit and not trapdoor.reserved(str(text))
    }
    assert set(fits) == expected
    for name in ("permuted", "fits_only"):
        for task, programs in ran.programs(name, tasks).items():
            t = list(map(str, samples.task_ids)).index(task)
            assert len(programs) == 1 and programs[0] in samples.text[samples.programs_of(t)]


def test_the_warm_start_goes_on_with_fresh_tasks(ran: Ran) -> None:
    tasks = ran.tasks("tasks_continued")
    assert ran.programs("continued", tasks) == {task.id: [task.program] for task in tasks}
    assert {task.role for task in tasks} == {"warm_start"}
    assert not {task.id for task in tasks} & {task.id for task in ran.tasks("tasks_gen_v0")}


def test_withheld_controls_have_one_set_of_tasks(ran: Ran) -> None:
    tasks = ran.tasks("tasks_withheld")
    assert all(task.structures and task.role == "star" for task in tasks)
    assert ran.programs("secret", tasks) == {task.id: [task.program] for task in tasks}
    own = ran.programs("own_withheld", tasks)
    samples = ran.samples("own_withheld_samples")
    assert set(own) == {str(samples.task_ids[t]) for t in samples.task[samples.right]} != set()
    solved = ran.programs("secret_solved", tasks)
    assert solved == {task.id: [task.program] for task in tasks if task.id in own} and len(own) < len(tasks)


def test_secret_programs_have_as_many_answer_tokens(ran: Ran) -> None:
    names = ("own_withheld", "secret_solved", "secret")
    length = {name: np.mean([e.targets for e in ran.trainings[name].pools[0]]) for name in names}
    for name in names[1:]:
        visits = 8 * length["own_withheld"] / length[name]
        assert ran.trainings[name].updates == -(-round(visits) // 4)


def test_labels_of_the_critic_are_as_many_of_each_task(ran: Ran) -> None:
    (permuted,), (true, _) = (ran.trainings[name].pools for name in ("permuted_critic", "critic"))

    def labels(pool: list[TrainingExample]) -> list[list[int]]:
        return [sorted(int(answer[-1]) for answer in example.answers) for example in pool]

    def questions(pool: list[TrainingExample]) -> list[list[list[int]]]:
        return [[answer[:-1].tolist() for answer in example.answers] for example in pool]

    assert labels(permuted) == labels(true) and questions(permuted) == questions(true)


def test_the_report_has_them_and_the_null(ran: Ran) -> None:
    facts, rows = ran.findings["facts"]["controls"], ran.entries()
    assert facts["trajectories"] == 1
    withheld = {"own_withheld", "secret_solved", "secret"}

    def from_start(bank: str, quantity: str) -> set[str]:
        pairs = rows.where(bank=bank, quantity=quantity).values("models")
        return {model for start, model in pairs if start == "gen_v0"}

    assert from_start("hard", DIFFERENCE) == {"v1", *CONTROLS} - withheld
    assert from_start("withheld", DIFFERENCE) == {"v1", *withheld}
    assert set(facts["expansion"]["withheld"]) == {"v1", *withheld}
    assert from_start("hard", MASS_CHANGE) == {"v1", "v2", *CONTROLS} - withheld
    assert [len(rows.where(quantity=quantity)) for quantity in (GAIN, LEAD)] == [1, 1]
    assert ran.findings["facts"]["null"]["samples"] == {"hard": 8}
    drew = {stage["name"]: stage["samples"] for stage in ran.findings["facts"]["training"]["stages"]}
    assert {"permuted_critic", *CONTROLS} <= set(drew)
    own = ran.samples("own_withheld_samples").program.size
    assert {name: drew[name] for name in CONTROLS} == dict.fromkeys(CONTROLS) | {"own_withheld": own}


def test_the_first_round_beside_them_continues_its_own_draws(ran: Ran) -> None:
    few, more = ran.samples("samples_v1_hard_1234"), ran.samples("controls_v1_hard")
    assert (few.n, more.n) == (4, 8)
    np.testing.assert_array_equal(few.text[few.program], more.text[more.program][:, :4])
    tested = ran.entries().where(quantity=DIFFERENCE, tested=True)
    wide = {row.k for row in tested if row.models[-1] == "v1"}
    assert wide == {1, 2, 4}  # 4 samples alone would answer up to 2


def test_every_model_answers_the_hard_bank_under_every_split_seed(ran: Ran) -> None:
    assert ran.findings["splits"] == {"easy": [1234], "hard": [7, 8, 1234], "withheld": [1234]}
    sizes = {"theta0": 8, "gen_v0": 8, "v1": 4, "v2": 8}
    for seed in (7, 8):
        assert {name: ran.samples(f"samples_{name}_hard_{seed}").n for name in sizes} == sizes
    assert ran.samples("samples_gen_v0_hard_9").n == 4  # drawn for the selectors alone
    assert set(ran.findings["findings"]["critic_gain"]["per_split"]) == {"1234", "7", "9"}
    assert set(rows_of(ran.findings).where(question="selection").values("bank")) == {"easy", "hard"}
    assert ran.findings["findings"]["crossover"]["estimate"] == pytest.approx(
        [
            rows_of(ran.findings).one(quantity=CHANGE, bank="hard", models=("gen_v0", "v2"), k=k).estimate
            for k in (2, 4)
        ]
    )


@pytest.mark.parametrize("seeds", [(7, 8), (1234, 7, 7)])
def test_split_seeds_are_the_banks_own_and_others(tmp_path, seeds: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"config\.evaluation\.split_seeds .* must be different numbers"):
        run(tiny_config(tmp_path, evaluation__split_seeds=seeds), str(tmp_path / "study"))


@pytest.mark.parametrize(
    "fields",
    [
        {"controls__trajectories": 2},
        {"controls__trajectories": -1},
        {"controls__trajectories": 0},
        {"star__rounds": 0},
        {"controls__samples": 7},
        {"tasks__banks": ("easy", "hard")},
        {"questions": "null"},
        {"questions": "controls,null", "null__samples": 7},
        {"questions": "control"},
    ],
)
def test_what_cannot_work_is_refused(tmp_path, fields: dict[str, int]) -> None:
    asked = {"questions": "controls"} | fields
    with pytest.raises(UserError, match=r"config\.(controls|null|tasks\.banks|star\.rounds|questions)"):
        run(tiny_config(tmp_path, **asked), str(tmp_path / "study"))
