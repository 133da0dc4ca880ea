"""The whole study of peers: its graph, its report, and that no training can see a verdict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from constellation.conductor import FinishedStages, PlannedStages, finished_stage
from constellation.domains.domain import load_domain
from constellation.domains.task import read_tasks
from constellation.evaluation.entries import rows_of
from constellation.experiments.files import TASKS, samples_of
from constellation.experiments.inspect import inspect_task
from constellation.experiments.peers.answers import answers_in, peer_names
from constellation.experiments.peers.graph import graph
from constellation.experiments.peers.run import run_peers
from constellation.experiments.report import redraw
from constellation.experiments.study import Study
from constellation.experiments.work import Judging, Sampling, Training
from constellation.runtime.errors import UserError
from constellation.selftraining.peers import ARMS
from tests.tiny_peers import Answering, tiny_peers, write_tiny_peer
from tests.tiny_study import digests_of

SOME = "pst,shuffled,majority,format_only,oracle,untrained"


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_peer(tmp_path_factory.mktemp("peer") / "model")


@pytest.fixture(scope="module")
def finished(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An arm of every kind, in two rounds."""
    workdir = tmp_path_factory.mktemp("study")
    run_peers(tiny_peers(model_dir, arms=SOME, peers__rounds=2), str(workdir), Answering())
    return workdir


def planned(model_dir: Path, **fields: object) -> PlannedStages:
    config, conductor = tiny_peers(model_dir, **fields), PlannedStages()
    graph(Study(config, conductor, load_domain(config.domain), ["one hash", "one hash"]))
    return conductor


def behind(conductor: PlannedStages, name: str) -> set[str]:
    """The names of all that a stage reads, directly or not."""
    read = conductor.recipes[name]["inputs"]
    return set(read).union(*(behind(conductor, other) for other in read))


def test_no_training_is_behind_a_verdict(model_dir: Path) -> None:
    """But the oracle's, which is a control for that."""
    conductor = planned(model_dir, arms=",".join(ARMS), peers__rounds=3)
    trainings = [name for name, stage in conductor.stages.items() if isinstance(stage.work, Training)]
    assert len(trainings) == (len(ARMS) - 1) * 3 * 2
    judged = {name for name, stage in conductor.stages.items() if isinstance(stage.work, Judging)}
    assert judged
    for name in trainings:
        assert bool(behind(conductor, name) & judged) == name.startswith("oracle"), name


def test_all_arms_share_what_untrained_peers_answer(model_dir: Path) -> None:
    conductor = planned(model_dir, arms="pst,uniform,inverted,majority")
    answers = [name for name in conductor.stages if name.startswith("answers_")]
    assert answers == [f"answers_before_{place}_model_{seed}" for place in (1, 2) for seed in (0, 1)]
    assert {name for name in conductor.stages if name.startswith("pmi_")} == {
        "pmi_before_model_0",
        "pmi_before_model_1",
    }
    again = planned(model_dir, arms="pst,uniform", peers__rounds=2).stages
    assert {"answers_pst_2_1_model_0", "answers_uniform_2_1_model_0", "pmi_pst_2_model_0"} <= set(again)


@pytest.mark.parametrize(
    "fields, changed, kept",
    [
        ({"peers__tau": 0.5}, {"pst_1_model_0"}, {"pmi_before_model_0", "answers_before_1_model_0"}),
        ({"peers__scorer": "last"}, {"pmi_before_model_0", "pst_1_model_0"}, {"answers_before_1_model_0"}),
        ({"peers__seeds": "0,2"}, {"answers_before_1_model_1"}, {"answers_before_1_model_0", "bank_hard"}),
        ({"evaluation__samples": 8}, {"draws_samples_pst_model_0"}, {"pst_1_model_0"}),
    ],
)
def test_a_field_changes_the_stages_that_read_it(model_dir: Path, fields, changed, kept) -> None:
    one, other = planned(model_dir).stages, planned(model_dir, **fields).stages
    for names, same in ((changed, False), (kept, True)):
        for name in names:
            assert (one[name].digest == other[name].digest) == same if name in other else not same, name


def test_the_plan_is_the_graph_that_runs(finished: Path, model_dir: Path) -> None:
    config = tiny_peers(model_dir, arms=SOME, peers__rounds=2)
    record = json.loads((finished / "stages/report/stage.json").read_text())
    conductor = PlannedStages()
    graph(Study(config, conductor, load_domain(config.domain), record["recipe"]["fields"]["models"]))
    assert {name: stage.digest for name, stage in conductor.stages.items()} == digests_of(finished)
    for name, stage in conductor.stages.items():
        if isinstance(stage.work, Sampling) and "_samples_" in name:
            sets = samples_of(finished_stage(finished, name))
            assert stage.work == Sampling(sum(len(own.task_ids) for own in sets), sets[0].n)


def test_every_problem_is_answered_once_at_each_place(finished: Path, model_dir: Path) -> None:
    config = tiny_peers(model_dir, arms=SOME, peers__rounds=2)
    for r in range(2):
        tasks = read_tasks(finished / "stages/tasks_problems_1" / f"tasks_{r}.jsonl")
        ids = [
            sorted(
                str(task)
                for seed in (0, 1)
                for task in samples_of(finished_stage(finished, f"answers_before_{place}_model_{seed}"))[
                    r
                ].task_ids
            )
            for place in (1, 2)
        ]
        assert ids[0] == ids[1] == sorted(task.id for task in tasks)
    assert (finished / "stages/bank_hard" / TASKS).exists() and config.tasks.bank == "hard"


def test_the_reported_round_is_that_of_the_stages(finished: Path, model_dir: Path) -> None:
    """How often the reference and each peer are right, and PMI, recomputed from the stored answers."""
    config = tiny_peers(model_dir, arms=SOME, peers__rounds=2)
    record = json.loads((finished / "stages/report/stage.json").read_text())
    study = Study(
        config, FinishedStages(finished), load_domain(config.domain), record["recipe"]["fields"]["models"]
    )
    made = next(each for each in graph(study).rounds if (each.arm, each.number) == ("pst", 2))
    assert made.sequence is not None
    rows = rows_of(json.loads((finished / "findings.json").read_text()))
    shares, firsts = [], []
    each = zip(study.tasks_of(made.problems), answers_in(study, made.sequence), strict=True)
    for tasks, answers in each:
        last = [
            texts[-1].endswith(f"answer {task.examples[0].output}")
            for task, texts in zip(tasks, answers.texts, strict=True)
        ]
        shares.append(np.mean(np.array(last) & answers.finished[:, -1]))
        first = [
            texts[0].endswith(f"answer {task.examples[0].output}")
            for task, texts in zip(tasks, answers.texts, strict=True)
        ]
        firsts.append(np.mean(np.array(first) & answers.finished[:, 0]))
    own = rows.where(bank="training", models=("pst",), k=2)
    assert own.one(quantity="reference right").by_trajectory == pytest.approx(shares, abs=1e-6)
    assert own.one(quantity="answer right", of="place 1").by_trajectory == pytest.approx(firsts, abs=1e-6)


def test_the_report_says_what_was_found(finished: Path) -> None:
    found = json.loads((finished / "findings.json").read_text())
    assert list(found["findings"]) == ["beats_majority", "exact_match_rises", "gap_falls", "weights_help"]
    assert found["models"] == ["before", *SOME.split(",")] and found["peers"] == ["model_0", "model_1"]
    rows = rows_of(found)
    for model in found["models"]:
        exact = rows.one(quantity="exact match", models=(model,), of="mean")
        flexible = rows.one(quantity="flexible match", models=(model,), of="mean")
        each = [
            rows.one(quantity="exact match", models=(model,), of=peer).estimate for peer in found["peers"]
        ]
        assert exact.estimate == pytest.approx(np.mean(each), abs=1e-6)
        assert 0 < exact.estimate <= flexible.estimate < 1
        one = rows.one(quantity="pass@k", models=(model,), of="mean", k=1)
        assert one.estimate == pytest.approx(exact.estimate, abs=1e-6)
    page = (finished / "report.html").read_text()
    for text in ("Do the peers get better?", "Compared with the paper", "The way of a problem", "PMI"):
        assert text in page
    for figure in ("exact_match", "curves", "rounds"):
        assert (finished / f"{figure}.png").read_bytes().startswith(b"\x89PNG") and f'id="{figure}"' in page


def test_a_finished_study_is_drawn_again_to_the_same_bytes(finished: Path) -> None:
    before = (finished / "findings.json").read_bytes(), (finished / "report.html").read_bytes()
    redraw(str(finished))
    assert ((finished / "findings.json").read_bytes(), (finished / "report.html").read_bytes()) == before


def test_a_task_is_shown_with_what_every_peer_answered(finished: Path, capsys) -> None:
    inspect_task(str(finished), "hard:0", trajectory=1)
    said = capsys.readouterr().out
    for model in ("before", *SOME.split(",")):
        for peer in ("model_0", "model_1"):
            stored = samples_of(finished_stage(finished, f"samples_{model}_{peer}"))[1]
            right = int(stored.per_sample(stored.right)[0].sum())
            assert f"{model}_{peer}: {right} of 4 samples generalise" in said
    assert ", peer +" in said and "  <- " in said and "the peer's pick" in said


@pytest.mark.parametrize(
    "fields, scored",
    [
        ({"peers__scorer": "{third}", "peers__one_at_a_time": True}, {"third": [True, True]}),
        ({"peers__scorer": "last", "peers__reference": "majority"}, None),
        (
            {
                "peers__reference": "majority",
                "peers__target": "reference",
                "peers__restart": "base",
                "peers__learns_last": True,
                "peers__per_token": False,
                "peers__rounds": 2,
            },
            None,
        ),
    ],
)
def test_every_switch_runs_to_the_report(model_dir: Path, tmp_path: Path, fields, scored) -> None:
    third = write_tiny_peer(tmp_path / "other", "llama", 1)
    fields = {name: str(value).format(third=third) for name, value in fields.items()}
    small = {"arms": "pst,format_only", "trajectories": 1, "tasks__bank_size": 2, "peers__problems": 4}
    run_peers(tiny_peers(model_dir, **small, **fields), str(tmp_path / "study"), Answering())
    found = json.loads((tmp_path / "study/findings.json").read_text())
    assert found["findings"]["exact_match_rises"]["estimate"] is not None
    pmi = {
        path.name.removeprefix("pmi_before_"): path
        for path in (tmp_path / "study/stages").glob("pmi_before_*")
    }
    assert set(pmi) == set(scored or ("model_0", "model_1"))
    finite = [np.isfinite(np.load(path / "pmi_0.npy")) for path in pmi.values()]
    assert (np.sum(finite, 0) == 1).all()  # every answer is scored by one model


def test_a_scorer_that_is_a_peer_by_another_name_is_refused(model_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(model_dir)
    with pytest.raises(UserError, match=r"config\.peers\.scorer = .*alias' is the model of a peer"):
        run_peers(
            tiny_peers(model_dir, peers__scorer=tmp_path / "alias"), str(tmp_path / "study"), Answering()
        )
    assert not (tmp_path / "study").exists()


def test_levels_alone(model_dir: Path, tmp_path: Path) -> None:
    """Without an arm a study says what the peers are, as on problems of the tuning role."""
    config = tiny_peers(model_dir, arms="", tasks__bank="tuning_hard", trajectories=1)
    run_peers(config, str(tmp_path), Answering())
    found = json.loads((tmp_path / "findings.json").read_text())
    assert found["models"] == ["before"]
    assert {finding["verdict"] for finding in found["findings"].values()} == {"inconclusive"}
    assert rows_of(found).one(quantity="correlation of errors").of == "model_0, model_1"


def test_peers_are_called_by_their_directories() -> None:
    assert peer_names(["a/gemma-2-2b-it", "b/Qwen2.5-1.5B"], [0, 0]) == ["gemma-2-2b-it", "Qwen2_5-1_5B"]
    assert peer_names(["a/nano", "a/nano"], [3, 4]) == ["nano_3", "nano_4"]
