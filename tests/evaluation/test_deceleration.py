import numpy as np
import pytest
from scipy.special import logit

from constellation.evaluation.analysis import resamples
from constellation.evaluation.claims import Claim
from constellation.evaluation.deceleration import deceleration, headroom
from constellation.runtime.errors import UserError
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
    bootstrap = resamples(study)
    found = headroom(study, bootstrap)["hard"]
    pairs = (("gen_v0", "v1"), ("v1", "v2"))
    expected = {
        "gain": [LEVEL[b] - LEVEL[a] for a, b in pairs],
        "share_of_headroom": [(LEVEL[b] - LEVEL[a]) / (1 - LEVEL[a]) for a, b in pairs],
        "logit": [logit(LEVEL[b]) - logit(LEVEL[a]) for a, b in pairs],
    }
    for scale, gains in expected.items():
        assert [row[scale]["estimate"] for row in found["rounds"]] == pytest.approx(gains)
        assert found["changes"][0][scale]["estimate"] == pytest.approx(gains[1] - gains[0])
        for row in (*found["rounds"], *found["changes"]):
            low, high = row[scale]["interval"]
            assert low <= row[scale]["estimate"] <= high
    assert [(row["from"], row["to"]) for row in found["rounds"]] == list(pairs)


def test_the_share_of_headroom_is_a_ratio_of_means() -> None:
    """Its interval is that of the ratio estimator."""
    study = counted_study(COUNTS)
    bootstrap = resamples(study)
    before, after = (
        np.array([[chance(c, 8) for c in row] for row in COUNTS[model]]) for model in ("gen_v0", "v1")
    )
    ratio = bootstrap("hard", after - before, within=1 - before)
    found = headroom(study, bootstrap)["hard"]["rounds"][0]["share_of_headroom"]
    assert [found["estimate"], *found["interval"]] == pytest.approx([float(part) for part in ratio[:3]])


def test_a_bank_solved_entirely_has_no_headroom() -> None:
    study = counted_study({"theta0": [[0] * 3], "gen_v0": [[32] * 3], "v1": [[31, 32, 32]]})
    row = headroom(study, resamples(study))["hard"]["rounds"][0]
    assert np.isnan(row["share_of_headroom"]["estimate"]) and np.isnan(row["logit"]["estimate"])
    assert row["gain"]["estimate"] == 0
