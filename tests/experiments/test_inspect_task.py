"""What is said of one task's candidates."""

from __future__ import annotations

import numpy as np

from constellation.experiments.inspect_task import _picks, _print_candidates, _sampled
from constellation.samples import collect
from constellation.verifier import Verdict

VERDICTS = {
    "first": Verdict(True, fits=True),
    "best": Verdict(True, fits=True, generalises=True, probe_correct=63),
    "wrong": Verdict(True),
    "no program": Verdict(False),
}


def test_survivors_come_first_with_their_scores_and_who_picks_them(capsys):
    texts = ["wrong", "wrong", "first", "no program", "best", "best"]
    samples = collect(
        ["task"], [[np.zeros(1, np.int32)] * 6], [[True] * 6], [texts], lambda t, text: VERDICTS[text], {}
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


def test_models_in_order_of_training_and_the_common_split_first(tmp_path):
    for name in (
        "v2_hard_7",
        "v10_hard_7",
        "theta0_hard_7",
        "gen_v0_hard_7",
        "gen_v0_hard_1",
        "v1_4_atoms_hard_7",
    ):
        (tmp_path / "stages" / f"samples_{name}").mkdir(parents=True)
        (tmp_path / "stages" / f"samples_{name}" / "stage.json").touch()
    partial = tmp_path / "stages/samples_v3_hard_7.partial"
    partial.mkdir()
    (partial / "stage.json").touch()
    found = _sampled(str(tmp_path), "hard")
    assert list(found.items()) == [
        (7, ["theta0", "gen_v0", "v2", "v10", "v1_4_atoms"]),
        (1, ["gen_v0"]),
    ]
