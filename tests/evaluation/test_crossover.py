import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.evaluation.analysis import resamples
from constellation.evaluation.claims import Claim
from constellation.evaluation.crossover import (
    CHANGE,
    changes_and_crossings,
    crossing,
    crossover,
    first_behind,
)
from constellation.evaluation.curves import change
from constellation.evaluation.entries import Entries, Entry
from constellation.runtime.errors import UserError
from tests.evaluation import synthetic
from tests.evaluation.counted import chance, counted_study

SHARPENED = {
    "theta0": [[1] * 30],
    "gen_v0": [[2] * 20 + [1] * 10, [2] * 18 + [1] * 12],
    "v1": [[4] * 30] * 2,
    "v2": [[16] * 18 + [0] * 12, [15] * 16 + [0] * 14],
}


def test_the_change_at_both_k_over_trajectories_and_tasks() -> None:
    study = counted_study(SHARPENED)
    claim = crossover(study, resamples(study))
    assert isinstance(claim, Claim)
    expected = [
        [
            [chance(a, k) - chance(b, k) for k in (8, 16)]
            for a, b in zip(SHARPENED["v2"][trajectory], SHARPENED["gen_v0"][trajectory], strict=True)
        ]
        for trajectory in range(2)
    ]
    np.testing.assert_allclose(claim.values, expected)
    np.testing.assert_allclose(claim.estimate.value, np.mean(expected, axis=(0, 1)))
    parts = float(claim.estimate.p_above[0]), float(claim.estimate.p_below[1])
    assert claim.p_value() == max(parts) > min(parts)  # of both, as both are claimed


def test_no_verdict_beyond_half_the_samples() -> None:
    study = counted_study({model: [[1, 2]] for model in ("theta0", "gen_v0", "v1")}, n=31)
    with pytest.raises(UserError, match="pass@16 needs at least 32 samples a task, there are 31"):
        crossover(study, resamples(study))


def by_loops(curve: list[float]) -> float:
    """K* by its definition: a k behind for good whose predecessor is not behind, in a curve ever ahead."""
    changes = [
        k
        for k in range(1, len(curve) + 1)
        if all(d < 0 for d in curve[k - 1 :])
        and not (k > 1 and curve[k - 2] < 0)
        and any(d > 0 for d in curve[: k - 1])
    ]
    if changes:
        assert len(changes) == 1
        return changes[0]
    return 0 if curve[-1] < 0 else np.inf


@given(st.lists(st.integers(-2, 2).map(float), min_size=1, max_size=9))
@settings(deadline=None)
def test_the_crossing_is_its_definition(curve: list[float]) -> None:
    assert first_behind(np.array(curve)) == by_loops(curve)


def test_crossings_by_hand() -> None:
    curves = [[1, 2, -1, -2], [1, -1, 1, -2], [1, -1, -1, 0], [-1, -2, -1, -1], [1, 1, 1, 1], [0, 0, -1, -1]]
    np.testing.assert_array_equal(first_behind(np.array(curves)), [3, 4, np.inf, 0, np.inf, 0])


def test_replicates_without_a_crossing_are_counted() -> None:
    study = counted_study(SHARPENED)
    bootstrap = resamples(study)
    found = crossing(study, bootstrap, "hard")
    ks = range(1, 17)
    difference = np.array(
        [
            [[chance(a, k) - chance(b, k) for k in ks] for a, b in zip(after, before, strict=True)]
            for after, before in zip(SHARPENED["v2"], SHARPENED["gen_v0"], strict=True)
        ]
    )  # [2, 30, 16]
    assert found["limit"] == 16
    assert found["crossing"] == by_loops(list(difference.mean((0, 1))))
    assert found["crossing"] is not None
    assert found["by_trajectory"] == [by_loops(list(d.mean(0))) for d in difference]
    weights = zip(bootstrap.trajectories, bootstrap.tasks["hard"], strict=True)
    each = [by_loops(list(np.einsum("k,t,ktm->m", w, v, difference))) for w, v in weights]
    assert found["never_ahead"] == each.count(0) and found["never_behind"] == each.count(np.inf)
    assert found["never_behind"] > 0
    assert found["interval"][0] == np.quantile(each, 0.025, method="inverted_cdf")
    assert found["interval"][1] is None and found["sentence"].endswith("beyond 16]")


def test_a_study_without_a_crossing_says_so() -> None:
    ahead = {"theta0": [[0] * 5], "gen_v0": [[1, 2, 0, 1, 3]], "v1": [[4, 5, 1, 2, 6]]}
    study = counted_study(ahead)
    found = crossing(study, resamples(study), "hard")
    assert found["crossing"] is None and found["never_behind"] == 500
    assert found["sentence"] == "no crossing, not behind at k = 16 [beyond 16, beyond 16]"
    behind = counted_study({"theta0": [[0] * 5], "gen_v0": ahead["v1"], "v1": ahead["gen_v0"]})
    found = crossing(behind, resamples(behind), "hard")
    assert found["sentence"] == "no crossing, never ahead [below 1, below 1]"
    none = counted_study({"theta0": [[0]], "gen_v0": [[1]]})
    rows, facts = changes_and_crossings(none, None, resamples(none))
    assert rows == [] and facts == {"crossing": {}}


def in_family(rows: list[Entry]) -> set[tuple]:
    return {(row.bank, *row.models, row.k) for row in rows if row.tested}


def test_every_change_but_that_of_the_finding_is_tested() -> None:
    results = synthetic.study(rounds=3, trajectories=2)
    bootstrap = resamples(results)
    rows, _ = changes_and_crossings(results, None, bootstrap)
    every = {
        (bank, "gen_v0", f"v{i}", k)
        for bank in ("easy", "hard", "withheld")
        for i in (1, 2, 3)
        for k in (1, 2, 4, 8, 16)
    }
    assert in_family(rows) == every - {("hard", "gen_v0", "v3", k) for k in (8, 16)}
    estimate = bootstrap("withheld", change(results, "withheld", "v1", [4])[..., 0])
    row = Entries(rows).one(quantity=CHANGE, bank="withheld", models=("gen_v0", "v1"), k=4)
    assert row.estimate == pytest.approx(float(estimate.value))
    assert row.p == pytest.approx(min(1, 2 * min(float(estimate.p_above), float(estimate.p_below))))


def test_nothing_is_tested_at_a_k_beyond_half_the_samples() -> None:
    counts = {"theta0": [[1, 2]], "gen_v0": [[1, 3]], "v1": [[1, 2]], "v2": [[3, 4]]}
    results = counted_study(counts, n={"theta0": 32, "gen_v0": 32, "v1": 16, "v2": 32})
    rows, _ = changes_and_crossings(results, None, resamples(results))
    expected = {("hard", "gen_v0", "v1", k) for k in (1, 2, 4, 8)}
    assert in_family(rows) == expected | {("hard", "gen_v0", "v2", k) for k in (1, 2, 4)}
    assert Entries(rows).where(models=("gen_v0", "v1")).values("k") == list(range(1, 17))
