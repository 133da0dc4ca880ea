"""Extension, refusal, restarts and an empty pool, on a study of seconds."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from constellation import checkpoints
from constellation.conductor import Conductor, finished_stage
from constellation.domains.task import read_tasks, split
from constellation.domains.trapdoor import DOMAIN
from constellation.domains.trapdoor.posterior import candidate_posterior
from constellation.evaluation.curves import PASS
from constellation.evaluation.entries import rows_of
from constellation.evaluation.filtering import FORECAST
from constellation.experiments import report, star
from constellation.experiments.compute import Compute
from constellation.experiments.files import SUMMARY, TASKS, numbered, samples_of
from constellation.experiments.filtering import POSTERIOR
from constellation.experiments.reach import KNOWN, LOG_PROBS
from constellation.experiments.run import run
from constellation.experiments.selection import COLUMNS
from constellation.experiments.study import Study
from constellation.generator import Sample
from constellation.model.model import Generator, check_model, load_model
from constellation.model.score import log_prob
from constellation.runtime.errors import UserError
from constellation.runtime.keys import Address
from constellation.selftraining.finetune import load_adapter, load_adapters
from tests.tiny_study import StandIn, tiny_config, write_one_answer_model, write_tiny_model


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def finished(model_dir, tmp_path_factory) -> Path:
    """A finished study of one round; tests that run it again take a copy."""
    workdir = tmp_path_factory.mktemp("finished")
    run_study(model_dir, workdir)
    return workdir


@pytest.fixture
def workdir(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "study")


def run_study(model_dir: Path, workdir: Path, **fields: object) -> dict:
    """Runs the study with the oracle's answers; returns the findings."""
    run(tiny_config(model_dir, **fields), str(workdir), compute=StandIn(workdir))
    return json.loads((workdir / "findings.json").read_text())


def untouched(workdir: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of the stages, and when it was written."""
    stages = workdir / "stages"
    files = [path for path in sorted(stages.rglob("*")) if path.is_file()]
    return {str(path.relative_to(stages)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def but_report(files: dict[str, tuple[int, bytes]]) -> dict[str, tuple[int, bytes]]:
    return {name: file for name, file in files.items() if not name.startswith("report/")}


def test_the_same_command_again_changes_nothing(model_dir, workdir):
    before = untouched(workdir)
    run_study(model_dir, workdir)
    assert untouched(workdir) == before


def test_more_rounds_extend_a_workdir(model_dir, workdir):
    before = but_report(untouched(workdir))
    findings = run_study(model_dir, workdir, star__rounds=2)
    after = untouched(workdir)
    assert before == {name: after[name] for name in before}
    assert {"v2", "v2_samples", "tasks_v2"} <= {name.split("/")[0] for name in after}
    passed = rows_of(findings).where(quantity=PASS, bank="hard").values("models")
    assert passed == [("theta0",), ("gen_v0",), ("v1",), ("v2",)]


def test_more_rounds_of_which_the_last_one_had_more_samples_are_refused_before_they_are_trained(
    model_dir, workdir
):
    before = untouched(workdir)
    message = "holds 8 samples a task of v1, and config.evaluation.middle_samples asks for 4: set it to 8"
    with pytest.raises(UserError, match=message):
        run_study(model_dir, workdir, star__rounds=2, evaluation__middle_samples=4)
    assert untouched(workdir) == before


def test_a_report_drawn_again_stays_until_another_is_made(model_dir, workdir):
    (workdir / "report.html").write_text("drawn again")
    run_study(model_dir, workdir)
    assert (workdir / "report.html").read_text() == "drawn again"
    run_study(model_dir, workdir, evaluation__resamples=50)
    assert "<html" in (workdir / "report.html").read_text()


@pytest.mark.parametrize("field", ["evaluation.margin", "star.keep", "questions"])
def test_a_study_of_another_version_keeps_its_report(workdir, field):
    record = json.loads((workdir / "stages/report/stage.json").read_text())
    section = record["recipe"]["fields"]["config"]
    *parents, name = field.split(".")
    for parent in parents:
        section = section[parent]
    del section[name]
    record["provenance"]["commit"] = "0123456"
    (workdir / "stages/report/stage.json").write_text(json.dumps(record))
    before = {path: path.read_bytes() for path in workdir.iterdir() if path.is_file()}
    with pytest.raises(UserError, match=f"another version .commit 0123456.*{name}"):
        report.redraw(str(workdir))
    assert {path: path.read_bytes() for path in before} == before


def test_reach_extends_a_workdir_and_knows_more_with_more_rounds(model_dir, workdir):
    before = but_report(untouched(workdir))
    found = run_study(model_dir, workdir, questions="reach")
    after = untouched(workdir)
    assert before == {name: after[name] for name in before}
    assert found["facts"]["reach"]["expansion"]["model"] == "v1"
    tasks = read_tasks(workdir / "stages/bank_hard" / TASKS)
    table = json.loads((workdir / "stages/known_programs_hard" / KNOWN).read_text())
    assert table["text"] == [task.program for task in tasks]  # all that the oracle gets right
    model = load_model(model_dir, "int4:32")
    prompts = [model.chat(DOMAIN.messages(split(task, 1234))) for task in tasks]
    texts = [[[*model.tokenizer.encode(task.program), *model.stop_ids]] for task in tasks]
    for name in ("theta0", "gen_v0", "v1"):
        adapters = load_adapters(workdir / "stages" / name)[0] if name != "theta0" else None
        by_hand = np.concatenate(log_prob(Generator(model, adapters), [prompts], [texts])[0])
        stored = np.load(workdir / f"stages/log_probs_{name}_hard" / numbered(LOG_PROBS, 0))
        np.testing.assert_allclose(stored, by_hand, rtol=1e-4)
    longer = run_study(model_dir, workdir, questions="reach", star__rounds=2)
    assert longer["facts"]["reach"]["expansion"]["model"] == "v2"
    of_v1 = [
        [row for row in results["entries"] if (row["question"], row["models"]) == ("reach", ["v1"])]
        for results in (found, longer)
    ]
    assert of_v1[0] == of_v1[1] != []


def test_selectors_extend_a_workdir(model_dir, workdir):
    before = but_report(untouched(workdir))
    findings = run_study(model_dir, workdir, questions="selectors")
    after = untouched(workdir)
    assert before == {name: after[name] for name in before}
    scored = rows_of(findings).where(question="selection", bank="hard", models=("gen_v0",), k=2)
    assert {"likeliest", "probe_majority", "prior_critic", "ideal_critic"} <= set(scored.values("of"))
    assert findings["facts"]["selection"]["tuning_tasks"] == 4
    assert findings["facts"]["selection"]["extension"]["estimate"] is not None
    drew = {stage["name"]: stage["samples"] for stage in findings["facts"]["training"]["stages"]}
    assert drew["critic"] and drew["prior_critic"] is None  # of the same candidates
    stages = workdir / "stages"
    assert json.loads((stages / "prior_critic" / SUMMARY).read_text())[0]["updates"] == 2
    samples = samples_of(finished_stage(workdir, "samples_gen_v0_hard_1234"))[0]
    with np.load(stages / "columns_gen_v0_hard_1234" / numbered(COLUMNS, 0)) as columns:
        assert np.array_equal(np.isfinite(columns["log_likelihood"]), samples.fits)
        assert np.array_equal(columns["probe_cluster"] >= 0, samples.fits)


def test_the_forecast_filters_by_the_law_of_the_star_tasks(model_dir, finished):
    findings = json.loads((finished / "findings.json").read_text())
    assert findings["facts"]["filtering"] == {
        "bank_atoms": {"easy": 3, "hard": 4, "withheld": 4},
        "star_atoms": 3,
    }
    tasks = read_tasks(finished / "stages/bank_hard" / TASKS)
    samples = samples_of(finished_stage(finished, "samples_gen_v0_hard_1234"))[0]
    for atoms in (3, 4):  # the bank's law is the ideal critic's
        stage = finished / f"stages/posterior_{atoms}_atoms_gen_v0_hard_1234"
        expected = candidate_posterior(tasks, lambda task: split(task, 1234), samples, atoms)
        np.testing.assert_array_equal(np.load(stage / numbered(POSTERIOR, 0)), expected)
    forecasts = rows_of(findings).where(quantity=FORECAST, bank="withheld")
    assert forecasts.values("models") == [("v1",)]


def test_an_arm_extends_a_workdir(model_dir, workdir):
    before = but_report(untouched(workdir))
    run_study(model_dir, workdir, questions="arm")
    after = untouched(workdir)
    assert before == {name: after[name] for name in before}
    tasks = read_tasks(workdir / "stages/tasks_v1_4_atoms" / numbered(TASKS, 0))
    assert {task.atoms for task in tasks} <= {1, 2, 3, 4} and {task.role for task in tasks} == {"star"}


@pytest.mark.parametrize(
    "field, value, named",
    [
        ("seed", 7, "seed: 2 -> 7"),
        ("tasks__seed", 7, "tasks.seed: 2 -> 7"),
        ("tasks__bank_size", 5, "tasks.bank_size: 4 -> 5"),
        ("tasks__visible", 3, "tasks.visible: 2 -> 3"),
        ("sampling__temperature", 0.5, "sampling.temperature: 1.0 -> 0.5"),
        ("lora__alpha", 8, "lora.alpha: 32.0 -> 8.0"),
        ("training__learning_rate", 0.1, "training.learning_rate: 0.001 -> 0.1"),
        ("warm_start__max_atoms", 2, "warm_start.max_atoms: 3 -> 2"),
        ("star__learning_rate", 0.1, "star.learning_rate: 0.001 -> 0.1"),
        ("star__keep", 2, "star.keep: 1 -> 2"),
        ("star__restart", "theta0", "star.restart: gen_v0 -> theta0"),
        ("star__samples", 5, "star.samples: 4 -> 5"),
        ("star__max_atoms", 2, "star.max_atoms: 3 -> 2"),
        ("critic__passes", 3, "critic.passes: 1 -> 3"),
        ("evaluation__samples", 9, "evaluation.samples: 8 -> 9"),
    ],
)
def test_a_change_to_what_a_stage_read_is_refused(model_dir, workdir, field, value, named):
    before = untouched(workdir)
    with pytest.raises(UserError, match="was made with other settings") as error:
        run_study(model_dir, workdir, **{field: value})
    assert named in str(error.value)
    assert untouched(workdir) == before


def test_another_split_of_the_examples_is_refused(model_dir, workdir):
    with pytest.raises(UserError, match=r"tasks\.split_seed: 1234 -> 7"):
        run_study(model_dir, workdir, tasks__split_seed=7, evaluation__split_seeds=(7,))


def test_another_model_is_refused(workdir, tmp_path):
    other = write_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(UserError, match=r"model\.hash"):
        run_study(other, workdir)


def test_another_law_of_the_tasks_is_refused(model_dir, workdir):
    other = dataclasses.replace(DOMAIN, law="another")
    with Conductor(workdir) as conductor:
        study = Study(tiny_config(model_dir), conductor, other, [check_model(model_dir, "int4:32")])
        for drawn in (lambda: study.bank("hard"), lambda: star.warm_start_tasks(study)):
            with pytest.raises(UserError, match=f"law: {DOMAIN.law} -> another; give another --workdir"):
                drawn()


def test_what_no_stage_reads_makes_the_report_anew_and_nothing_else(model_dir, workdir, tmp_path):
    before = untouched(workdir)
    moved = shutil.copytree(model_dir, tmp_path / "moved")
    changes = {"evaluation__resamples": 50, "evaluation__margin": 0.02, "training__checkpoint_every": 2}
    findings = run_study(moved, workdir, **changes)
    assert findings["analysis"]["resamples"] == 50
    after = untouched(workdir)
    assert but_report(after) == but_report(before)
    assert after["report/findings.json"] != before["report/findings.json"]


@pytest.mark.parametrize(
    "field, value",
    [
        ("seed", -1),
        ("star__restart", "gen_v1"),
        ("star__rounds", -1),
        ("star__learning_rate", 0),
        ("tasks__banks", "easy"),
        ("tasks__banks", "hard,tuning_hard"),
        ("tasks__visible", 12),
        ("training__batch_size", 0),
        ("star__max_atoms", 7),
        ("evaluation__large_k", 9),
        ("selection__samples", 1),
        ("questions", "reahc"),
        ("selection__tuning_samples", 1),
        ("sampling__temperature", -1),
        ("model__quantization", "int4:7"),
        ("model__dtype", "float8"),
    ],
)
def test_a_value_that_cannot_work_is_found_before_the_workdir_is_made(model_dir, tmp_path, field, value):
    with pytest.raises(UserError, match=field.split("__")[-1]):
        run(tiny_config(model_dir, **{field: value}), str(tmp_path / "study"))
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize("field", ["model__dir", "critics__model_dir"])
def test_so_is_a_base_on_which_no_critic_can_answer(model_dir, tmp_path, field):
    config = tiny_config(model_dir, **{field: write_one_answer_model(tmp_path / "model")})
    config.questions = ("critics", "other_base") if field == "critics__model_dir" else ()
    with pytest.raises(UserError, match="'yes' and 'no' with one token"):
        run(config, str(tmp_path / "study"))
    assert not (tmp_path / "study").exists()


def test_several_trajectories(model_dir, finished, tmp_path):
    findings = run_study(model_dir, tmp_path, trajectories=2)
    assert findings["findings"]["crossover"]["scope"] == "trajectories from this base"
    one, other = (read_tasks(tmp_path / "stages/tasks_v1" / numbered(TASKS, r)) for r in (0, 1))
    assert not {task.id for task in one} & {task.id for task in other}
    stage = "stages/gen_v0"
    alone, first = (load_adapter(workdir / stage)[0] for workdir in (finished, tmp_path))
    for a, b in zip(
        *map(jax.tree.leaves, (alone, first)), strict=True
    ):  # the first is that of a study of one
        np.testing.assert_allclose(a, b, atol=1e-4)
    assert not same(first, load_adapter(tmp_path / stage, 1)[0])


def test_no_rounds_at_all(model_dir, workdir):
    """gen_v0 alone: the rounds' findings are said not to be measured."""
    findings = run_study(model_dir, workdir, star__rounds=0)["findings"]
    assert findings["crossover"]["verdict"] == findings["deceleration"]["verdict"] == "inconclusive"


@pytest.fixture
def rounds(model_dir, workdir):
    """rounds(restart) trains two rounds from the finished gen_v0; returns what each was given."""

    def train(restart: str) -> list[dict]:
        shutil.rmtree(workdir / "stages" / "v1")
        trainings = []

        class Recorded(StandIn):
            def finetune(self, generator, pools, training, address, *rest):
                start = jax.tree.map(lambda x: np.array(x[0]), generator.adapters.weights)
                assert training.learning_rate == 0.004  # the rounds' own
                trainings.append(
                    {"start": start, "pool": pools[0], "updates": training.updates, "address": address}
                )
                return super().finetune(generator, pools, training, address, *rest)

        config = tiny_config(model_dir, star__rounds=2, star__restart=restart, star__learning_rate=0.004)
        model_hash = check_model(model_dir, config.model.quantization, config.model.dtype)
        with Conductor(workdir) as conductor:
            star.last_round(Study(config, conductor, DOMAIN, [model_hash], Recorded(workdir)))
        return trainings

    return train


def same(one, other) -> bool:
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


@pytest.mark.parametrize("restart", ["theta0", "gen_v0", "continue"])
def test_where_a_round_starts(rounds, workdir, restart):
    first, second = rounds(restart)
    after = {name: load_adapter(workdir / "stages" / name)[0].weights for name in ("gen_v0", "v1")}
    if restart == "theta0":
        assert not any(pair["b"].any() for training in (first, second) for pair in training["start"].values())
        assert not same(first["start"], second["start"])  # each round draws its own
    else:
        assert same(first["start"], after["gen_v0"])
        assert same(second["start"], after["v1" if restart == "continue" else "gen_v0"])
    assert not same(after["gen_v0"], after["v1"])  # or it would show nothing


def test_a_round_trains_on_its_own_data_alone(rounds, model_dir, workdir):
    first, second = rounds("gen_v0")
    tokenizer = load_model(model_dir).tokenizer
    pools = []
    for name, training in (("v1", first), ("v2", second)):
        tasks = read_tasks(workdir / f"stages/tasks_{name}" / numbered(TASKS, 0))
        samples = samples_of(finished_stage(workdir, f"{name}_samples"))[0]
        prompts = {
            tuple(tokenizer.chat(DOMAIN.messages(split(task, 1234)))): t for t, task in enumerate(tasks)
        }
        drawn = {
            (t, text)
            for t, text, right in zip(samples.task, samples.text, samples.right, strict=True)
            if right
        }
        trained = {
            (prompts[tuple(example.prompt)], tokenizer.decode(answer[:-1]))
            for example in training["pool"]
            for answer in example.answers
        }
        assert trained and trained <= drawn
        assert (training["updates"], training["address"]) == (2, Address(2, "batches", name))
        pools.append({task.id for task in tasks})
    assert not pools[0] & pools[1]


def test_a_checkpoint_says_where_it_comes_from(model_dir, finished):
    state, metadata, step = checkpoints.restore(finished / "stages/v1/adapter")
    assert metadata["name"] == "v1" and metadata["addresses"] == [[2, "batches", "v1", 0]]
    assert metadata["model"] == {"dir": str(model_dir), "hash": check_model(model_dir, "int4:32")}
    assert metadata["config"] == json.loads(json.dumps(tiny_config(model_dir).to_dict()))
    assert step == json.loads((finished / "stages/v1" / SUMMARY).read_text())[0]["updates"] == 2
    assert int(state["1"]["1"]["0"]["count"][0]) == step  # AdamW's


def test_roles_do_not_meet(finished):
    signatures: dict[str, set[str]] = {}
    for path in (finished / "stages").glob("*/tasks*.jsonl"):
        for task in read_tasks(path):
            signatures.setdefault(task.role, set()).add(task.signature)
    assert set(signatures) == {"warm_start", "star", "critic", "evaluation"}
    assert sum(map(len, signatures.values())) == len(set.union(*signatures.values()))


CONTROLS_KEPT = {
    "permuted": 0,
    "fits_only": 0,
    "continued": 8,
    "own_withheld": 0,
    "secret_solved": 0,
    "secret": 8,
    "permuted_critic": 0,
}


@pytest.mark.parametrize("controls", [0, 1])
def test_an_empty_pool_is_a_result(model_dir, tmp_path, controls):
    class Nothing(Compute):
        def sample(self, generator, prompts, task_ids, address, config, rows, progress):
            return [[[Sample(np.zeros(1, np.int32), True)] * config.n for _ in own] for own in task_ids]

    run(tiny_config(model_dir, questions="controls" * controls), str(tmp_path), compute=Nothing())
    stages = tmp_path / "stages"
    for name in ("v1", "critic", *(("own_withheld",) if controls else ())):
        summary = json.loads((stages / name / SUMMARY).read_text())
        assert summary == [{"kept": 0, "kept_tasks": 0, "updates": 0, "answer_tokens": 0}]
    assert same(*(load_adapter(stages / name)[0].weights for name in ("gen_v0", "v1")))
    findings = json.loads((tmp_path / "findings.json").read_text())
    assert {stage["name"]: stage["kept"] for stage in findings["facts"]["training"]["stages"]} == {
        "gen_v0": 8,
        "v1": 0,
        "critic": 0,
    } | (CONTROLS_KEPT if controls else {})
    if controls:  # as many answer tokens as own programs have: none
        for name in ("secret_solved", "secret"):
            assert json.loads((stages / name / SUMMARY).read_text())[0]["updates"] == 0
    assert (tmp_path / "report.html").exists()
