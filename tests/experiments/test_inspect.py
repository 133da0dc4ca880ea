"""What is said of one task's candidates."""

from __future__ import annotations

import json

import numpy as np
import pytest

from constellation.domains.domain import Verdict
from constellation.domains.task import read_tasks
from constellation.domains.trapdoor import DOMAIN as trapdoor
from constellation.experiments.files import SAMPLES, TASKS, numbered, write_tasks
from constellation.experiments.inspect import _picks, _print_candidates, _sampled, inspect_task
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


def stage(workdir, name, *inputs):
    """A finished stage of no files but what is written before; returns its directory."""
    path = workdir / "stages" / name
    path.mkdir(parents=True, exist_ok=True)
    record = {"digest": name, "content": "", "complete": True, "files": {}, "made_of": {}, "provenance": {}}
    record["recipe"] = {"inputs": dict.fromkeys(inputs, "")}
    (path / "stage.json").write_text(json.dumps(record))
    return path


def sampled(workdir, name, tasks, trajectories, bank):
    """A stage of one sample a task, "<name> <trajectory>"."""
    path = stage(workdir, f"samples_{name}_7", f"bank_{bank}")
    for r in range(trajectories):
        texts = [[f"{name} {r}"]] * len(tasks)
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
    sampled(tmp_path, "gen_v0_hard", tasks, 2, "hard")
    sampled(tmp_path, "permuted_hard", tasks, 1, "hard")
    sampled(tmp_path, "gen_v0_tuning_hard", tasks[:1], 2, "tuning_hard")
    inspect_task(str(tmp_path), "hard:1", 1)
    out = capsys.readouterr().out
    assert "gen_v0_hard 1" in out and "permuted" not in out and "tuning" not in out
    inspect_task(str(tmp_path), "hard:1")
    assert "permuted_hard 0" in capsys.readouterr().out
    with pytest.raises(UserError, match="trajectories 0 to 1, and not 2"):
        inspect_task(str(tmp_path), "hard:1", 2)
    assert capsys.readouterr().out == ""


def test_models_in_order_of_training_and_the_common_split_first(tmp_path):
    for name in (
        "v2_hard_7",
        "v10_hard_7",
        "theta0_hard_7",
        "gen_v0_hard_7",
        "gen_v0_hard_1",
        "v1_4_atoms_hard_7",
        "v3_hard_7.partial",
    ):
        stage(tmp_path, f"samples_{name}", "bank_hard")
    stage(tmp_path, "samples_gen_v0_tuning_hard_7", "bank_tuning_hard")
    found = _sampled(str(tmp_path), "hard")
    assert list(found.items()) == [
        (7, ["theta0", "gen_v0", "v2", "v10", "v1_4_atoms"]),
        (1, ["gen_v0"]),
    ]
