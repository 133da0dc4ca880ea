"""What is said of one task's candidates."""

from __future__ import annotations

import json

import numpy as np
import pytest

from constellation.domains.domain import Verdict
from constellation.domains.task import read_tasks
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.experiments.files import SAMPLES, TASKS, numbered, write_tasks
from constellation.experiments.inspect import (
    _picks,
    _print_candidates,
    _recipes,
    _sampled,
    _scored,
    inspect_task,
)
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet, collect

VERDICTS = {
    "first": Verdict(True, fits=True),
    "best": Verdict(True, fits=True, right=True, probe_correct=63),
    "wrong": Verdict(True),
    "no program": Verdict(False),
}


def test_survivors_come_first_with_their_scores_and_who_picks_them(capsys):
    texts = ["wrong", "wrong", "first", "no program", "best", "best"]
    samples = collect(["task"], [[np.zeros(1, np.int32)] * 6], [[True] * 6], [texts], {}).judge(
        lambda t, text: VERDICTS[text]
    )
    scores = np.array([np.nan, -1.25, np.nan, 2.5])  # of wrong, first, no program, best
    _print_candidates("v1", samples, 0, scores)
    assert capsys.readouterr().out.splitlines() == [
        "v1: 2 of 6 samples generalise, 4 distinct programs",
        "     2 x  best",
        "          generalises, 63 probes right, critic +2.50  <- the critic's pick",
        "     1 x  first",
        "          fits the visible examples only, critic -1.25  <- first survivor",
        "     2 x  wrong",
        "          wrong",
        "     1 x  no program",
        "          no program",
        "",
    ]


def test_picks():
    scores = np.array([0.0, 3.0, 3.0, np.nan])
    assert _picks([], scores) == {}
    assert _picks([2, 0], None) == {0: ["first survivor"]}
    assert _picks([2, 1], scores) == {1: ["first survivor", "the critic's pick"]}  # the earlier of equals


def stage(workdir, name, *inputs, **fields):
    """A finished stage of no files but what is written before; returns its directory."""
    path = workdir / "stages" / name
    path.mkdir(parents=True, exist_ok=True)
    record = {"digest": name, "content": "", "complete": True, "files": {}, "made_of": {}, "provenance": {}}
    record["recipe"] = {"inputs": dict.fromkeys(inputs, ""), "fields": fields}
    (path / "stage.json").write_text(json.dumps(record))
    return path


def judged(workdir, name, model, bank, seed=7, purpose="evaluation", trajectories=1, n=1):
    """Finished stages of a model, its draws and their verdicts; returns the directory of the last."""
    generator = [] if model == "theta0" else [stage(workdir, model.partition(",")[0]).name]
    draws = {"purpose": purpose, "arm": model, "trajectories": trajectories, "evaluation.samples": n}
    stage(workdir, f"draws_{name}", f"bank_{bank}", *generator, **draws, tasks={"split_seed": seed})
    return stage(workdir, name, f"bank_{bank}", f"draws_{name}")


def sampled(workdir, model, tasks, trajectories, bank):
    """Stages of one sample a task, "<model>_<bank> <trajectory>"."""
    path = judged(workdir, f"samples_{model}_{bank}_7", model, bank, trajectories=trajectories)
    for r in range(trajectories):
        texts = [[f"{model}_{bank} {r}"]] * len(tasks)
        drawn = collect(
            [task.id for task in tasks],
            [[np.zeros(1, np.int32)]] * len(tasks),
            [[True]] * len(tasks),
            texts,
            {"tasks": {"visible": 2}},
        ).judge(lambda t, text: Verdict(True))
        drawn.save(path / numbered(SAMPLES, r))
        assert SampleSet.load(path / numbered(SAMPLES, r)).n == 1


def test_a_control_has_fewer_trajectories_and_the_tuning_bank_other_tasks(tmp_path, capsys):
    path = stage(tmp_path, "bank_hard")
    write_tasks(path / TASKS, trapdoor.bank("hard", 3), 2, "bank_hard")
    tasks = read_tasks(path / TASKS)
    sampled(tmp_path, "gen_v0", tasks, 2, "hard")
    sampled(tmp_path, "permuted", tasks, 1, "hard")
    sampled(tmp_path, "gen_v0", tasks[:1], 2, "tuning_hard")
    inspect_task(str(tmp_path), "hard:1", 1)
    out = capsys.readouterr().out
    assert "gen_v0_hard 1" in out and "permuted" not in out and "tuning" not in out
    inspect_task(str(tmp_path), "hard:1")
    assert "permuted_hard 0" in capsys.readouterr().out
    with pytest.raises(UserError, match="trajectories 0 to 1, and not 2"):
        inspect_task(str(tmp_path), "hard:1", 2)
    assert capsys.readouterr().out == ""


def test_models_in_order_of_training_and_the_common_split_first(tmp_path):
    stage(tmp_path, "bank_hard")
    for model in ("v2", "v10", "theta0", "gen_v0", "v1_4_atoms"):
        judged(tmp_path, f"samples_{model}_hard_7", model, "hard")
    judged(tmp_path, "samples_gen_v0_hard_1", "gen_v0", "hard", seed=1)
    judged(tmp_path, "samples_gen_v0_tuning_hard_7", "gen_v0", "tuning_hard")
    found = _sampled(_recipes(str(tmp_path)), "hard")
    assert [(seed, list(models)) for seed, models in found.items()] == [
        (7, ["theta0", "gen_v0", "v2", "v10", "v1_4_atoms"]),
        (1, ["gen_v0"]),
    ]
    assert found[7]["v10"] == "samples_v10_hard_7"


def test_the_study_s_own_samples_are_shown_and_no_others(tmp_path):
    """Neither those of a stage that is running, nor of a question that draws anew, nor draws continued."""
    judged(tmp_path, "samples_v1_hard_7", "v1", "hard", trajectories=2, n=32)
    judged(tmp_path, "controls_v1_hard", "v1", "hard", trajectories=1, n=64)
    judged(tmp_path, "samples_v2_hard_7", "v2", "hard", n=32)
    judged(tmp_path, "controls_v2_hard", "v2", "hard", n=64)
    judged(tmp_path, "samples_v3_hard_7", "v3", "hard")
    (tmp_path / "stages/samples_v3_hard_7").rename(tmp_path / "stages/samples_v3_hard_7.partial")
    judged(tmp_path, "null_pool_hard", "gen_v0", "hard", purpose="null pool")
    judged(tmp_path, "visible_3_samples_gen_v0_hard_7", "gen_v0, 3 visible", "hard")
    found = _sampled(_recipes(str(tmp_path)), "hard")
    assert found == {7: {"v1": "samples_v1_hard_7", "v2": "samples_v2_hard_7"}}


def test_scores_are_the_critic_s_own(tmp_path):
    stage(tmp_path, "prior_scores", "prior_critic", "bank_hard", "samples_v1_hard_7")
    stage(tmp_path, "columns", "v1", "bank_hard", "samples_v1_hard_7")
    stage(tmp_path, "report", "critic", "bank_hard", "samples_v1_hard_7", "scores_v1_hard_7")
    assert _scored(_recipes(str(tmp_path)), "hard", "samples_v1_hard_7") is None
    stage(tmp_path, "scores_v1_hard_7", "critic", "bank_hard", "samples_v1_hard_7")
    assert _scored(_recipes(str(tmp_path)), "hard", "samples_v1_hard_7") == "scores_v1_hard_7"
