import numpy as np
import pytest
from scipy.special import logit

from constellation.evaluation.analysis import resamples
from constellation.evaluation.claims import Claim
from constellation.evaluation.entries import Entries
from constellation.evaluation.gains import GAIN, SECOND_DIFFERENCE, deceleration, gains
from constellation.runtime.errors import UserError
from tests.evaluation import synthetic
from tests.evaluation.counted import chance, counted_study

COUNTS = {
    "theta0": [[0] * 12],
    "gen_v0": [[1, 2] * 6, [2, 2] * 6],
    "v1": [[4, 3] * 6, [4, 2] * 6],
    "v2": [[4, 4] * 6, [5, 2] * 6],
}
LEVEL = {model: np.mean([[chance(c, 8) for c in row] for row in rows]) for model, rows in COUNTS.items()}


def test_the_difference_of_the_gains() -> None:
    study = counted_study(COUNTS)
    claim = deceleration(study, resamples(study))
    assert isinstance(claim, Claim)
    first, second = LEVEL["v1"] - LEVEL["gen_v0"], LEVEL["v2"] - LEVEL["v1"]
    np.testing.assert_allclose(claim.estimate.value, [second - first])
    assert claim.values.shape == (2, 12, 1) and claim.directions == (-1,)
    assert f"{100 * first:+.1f} points in the first round and {100 * second:+.1f}" in claim.sentence


def test_a_round_with_few_samples_is_refused_at_a_large_k() -> None:
    study = counted_study(COUNTS, n={"theta0": 32, "gen_v0": 32, "v1": 12, "v2": 32})
    with pytest.raises(UserError, match="pass@8 needs at least 16 samples a task, there are 12"):
        deceleration(study, resamples(study))


def test_gains_against_the_headroom_and_in_logits() -> None:
    study = counted_study(COUNTS)
    rows = Entries(gains(study, None, resamples(study)).entries)
    pairs = (("gen_v0", "v1"), ("v1", "v2"))
    expected = {
        "": [LEVEL[b] - LEVEL[a] for a, b in pairs],
        "share of headroom": [(LEVEL[b] - LEVEL[a]) / (1 - LEVEL[a]) for a, b in pairs],
        "logit": [logit(LEVEL[b]) - logit(LEVEL[a]) for a, b in pairs],
    }
    for scale, each in expected.items():
        at = rows.where(quantity=GAIN, bank="hard", k=8, of=scale)
        assert at.values("models") == list(pairs)
        assert [row.estimate for row in at] == pytest.approx(each)
        difference = rows.one(quantity=SECOND_DIFFERENCE, bank="hard", k=8, of=scale)
        assert difference.models == ("gen_v0", "v1", "v2")
        assert difference.estimate == pytest.approx(each[1] - each[0])
        for row in (*at, difference):
            low, high = row.interval
            assert low <= row.estimate <= high


def test_the_share_of_headroom_is_a_ratio_of_means() -> None:
    """Its interval is that of the ratio estimator."""
    study = counted_study(COUNTS)
    bootstrap = resamples(study)
    before, after = (
        np.array([[chance(c, 8) for c in row] for row in COUNTS[model]]) for model in ("gen_v0", "v1")
    )
    ratio = bootstrap("hard", after - before, within=1 - before)
    rows = Entries(gains(study, None, bootstrap).entries)
    found = rows.one(quantity=GAIN, models=("gen_v0", "v1"), of="share of headroom")
    assert [found.estimate, *found.interval] == pytest.approx([float(part) for part in ratio[:3]])


def test_a_bank_solved_entirely_has_no_headroom() -> None:
    study = counted_study({"theta0": [[0] * 3], "gen_v0": [[32] * 3], "v1": [[31, 32, 32]]})
    rows = Entries(gains(study, None, resamples(study)).entries)
    assert np.isnan(rows.one(of="share of headroom").estimate) and np.isnan(rows.one(of="logit").estimate)
    assert rows.one(quantity=GAIN, k=8, of="").estimate == 0


def test_what_is_tested_is_neither_the_finding_nor_a_change_from_the_start() -> None:
    results = synthetic.study(rounds=3, trajectories=2)
    rows = Entries(gains(results, None, resamples(results)).entries).where(tested=True)
    banks, rounds = ("easy", "hard", "withheld"), ("gen_v0", "v1", "v2", "v3")
    triples = {(bank, rounds[i : i + 3], k) for bank in banks for i in (0, 1) for k in (1, 8)}
    differences = {(row.bank, row.models, row.k) for row in rows.where(quantity=SECOND_DIFFERENCE, of="")}
    assert differences == triples - {("hard", rounds[:3], 8)}
    later = {(bank, pair, k) for bank in banks for pair in (rounds[1:3], rounds[2:]) for k in (8, 16)}
    assert {(row.bank, row.models, row.k) for row in rows.where(quantity=GAIN)} == later
    assert len(rows) == len(differences) + len(later) + 2 * 2 * 3  # differences on two more scales
