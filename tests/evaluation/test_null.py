"""The null against hypergeometric parts, its rules by hand, and studies that learned nothing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import scipy.stats

from constellation.evaluation.analysis import resamples
from constellation.evaluation.claims import Claim
from constellation.evaluation.crossover import NULL_CHANGE
from constellation.evaluation.entries import Entries
from constellation.evaluation.findings import conclude
from constellation.evaluation.gains import NULL_GAIN
from constellation.evaluation.null import (
    CLASS_REACH,
    HALVINGS,
    PAIRS,
    PICKED,
    RESTARTED,
    SECOND,
    STUDIES,
    TASKS_GAINED,
    TASKS_LOST,
    NullPools,
    another_warm_start,
    curve_changes,
    divide,
    divisions,
    null,
    rate,
    several,
    spread,
    verdicts,
)
from constellation.evaluation.reach import NULL_MASS, NULL_REACH, known_of
from constellation.evaluation.selection import critic_gain
from constellation.evaluation.statistics import Bootstrap, resample
from constellation.evaluation.study import AnalysisConfig, StudyResults
from constellation.runtime.errors import UserError
from constellation.runtime.keys import host_rng
from tests.evaluation.counted import chance, counted_study
from tests.evaluation.synthetic import known_programs, null_pools, study

DOUBLED = [[0, 3, 30, 64, 9, 20] * 5, [1, 2, 28, 64, 9, 21] * 5]
VERDICTS = ("compounding", "amplification", "no gain", "inconclusive")


def doubled_study(**counts: list[list[int]]) -> StudyResults:
    own = [[c // 2 for c in row] for row in DOUBLED]
    fresh = [[c - c // 2 for c in row] for row in DOUBLED]
    models = {"theta0": [[0] * 30], "gen_v0": own, "v1": own, "v2": own, **counts}
    return counted_study(models, fresh=fresh)


def answered(results: StudyResults) -> Entries:
    part = results.parts.get("null")
    assert part is None or isinstance(part, NullPools)
    return Entries(null(results, part, resamples(results)).entries)


def shares(rows: Entries, kind: str) -> dict[str, float]:
    """Verdict over all -> its rate."""
    return {name: rows.one(quantity=rate(name), of=kind).estimate for name in VERDICTS}


def test_parts_of_a_pool_are_hypergeometric() -> None:
    correct = np.array([[0, 3, 10, 21]])
    parts = divide(correct, 21, [7, 7, 7], 20_000, np.random.default_rng(0))  # [3, S, 1, T]
    assert parts.shape == (3, 20_000, 1, 4)
    np.testing.assert_array_equal(parts.sum(0), np.broadcast_to(correct, (20_000, 1, 4)))
    for part in parts:
        for t, c in enumerate(correct[0]):
            expected = scipy.stats.hypergeom(21, c, 7).pmf(np.arange(8))
            found = np.bincount(part[:, 0, t], minlength=8) / 20_000
            np.testing.assert_allclose(found, expected, atol=4 * 0.5 / np.sqrt(20_000))


def test_what_is_left_over_is_in_no_part() -> None:
    parts = divide(np.array([[10]]), 10, [3, 3, 3], 50, np.random.default_rng(0))
    assert (parts == 3).all()  # all 10 are correct, 3 in each part


def test_curves_are_those_of_the_parts_means() -> None:
    before, after = divide(np.array(DOUBLED), 64, [32, 32], 30, np.random.default_rng(1))
    expected = [
        [
            np.mean([chance(b, k) - chance(a, k) for a, b in zip(first.flat, second.flat, strict=True)])
            for k in (1, 4)
        ]
        for first, second in zip(before, after, strict=True)
    ]
    found = curve_changes(before, after, (32, 32), range(1, 5))
    np.testing.assert_allclose(found[:, ::3], expected, atol=1e-12)


def test_halvings_find_nothing_but_noise() -> None:
    results = doubled_study()
    answer = null(results, null_pools(results), resamples(results))
    rows = Entries(answer.entries).where(of=HALVINGS, models=("gen_v0",))
    assert answer.facts["samples"] == {"hard": 32}
    assert rows.one(quantity=STUDIES).estimate == results.analysis.halvings == 200
    assert rows.first(quantity=PICKED) is None and rows.first(quantity=rate("critic gain")) is None
    statistics = [*rows.where(quantity=NULL_CHANGE), rows.one(quantity=SECOND)]
    assert [row.k for row in statistics] == [8, 16, 8]
    for row in statistics:
        low, high = row.interval
        assert low < 0 < high and abs(row.estimate) < 0.02
    assert rows.one(quantity=rate("crossover")).estimate <= 0.05
    assert rows.one(quantity=rate("deceleration")).estimate <= 0.1
    overall = shares(rows, HALVINGS)
    assert sum(overall.values()) == pytest.approx(1) and overall["amplification"] <= 0.05
    # of the tasks with 3 of 64 correct, a half misses all with chance 1/8, and so does the other: 10 of them
    chances = [scipy.stats.hypergeom(64, c, 32).pmf(0) if c < 64 else 0 for c in (*DOUBLED[0], *DOUBLED[1])]
    solved = [chance for chance, c in zip(chances, (*DOUBLED[0], *DOUBLED[1]), strict=True) if c > 0]
    for quantity in (TASKS_GAINED, TASKS_LOST):
        found = rows.one(quantity=quantity).estimate
        assert found == pytest.approx(sum(solved) / 2, abs=0.3)  # of 2 trajectories
    band = Entries(answer.entries).where(quantity=NULL_CHANGE, of=HALVINGS, models=("gen_v0", "v2"))
    assert band.values("k") == list(range(1, 33))


def test_what_did_change_is_found() -> None:
    """The same rules on pseudo-studies that gained at small k and lost at large k: they are not blind."""
    rng = np.random.default_rng(2)
    bootstrap = Bootstrap(resample(4, 300, rng), {"hard": resample(50, 300, rng)}, 0.95)
    change = rng.normal([0.2, -0.2], 0.1, (4, 50, 7, 2))
    second = rng.normal(-0.1, 0.1, (4, 50, 7))
    estimates = bootstrap("hard", change), bootstrap("hard", second)
    rows = Entries(verdicts(doubled_study(), "hard", HALVINGS, *estimates))
    for name in ("crossover", "deceleration"):
        assert rows.one(quantity=rate(name)).estimate == 1
        assert rows.one(quantity=rate(f"{name}, corrected")).estimate == 1
    assert rows.first(quantity=rate("critic gain")) is None
    assert shares(rows, HALVINGS) == {"compounding": 0, "amplification": 1, "no gain": 0, "inconclusive": 0}


def test_pairs_are_studies_of_one_trajectory_each() -> None:
    counts = [[0, 3, 15, 32, 4, 10] * 5, [1, 2, 14, 32, 4, 10] * 5, [4, 8, 20, 32, 9, 10] * 5]
    results = counted_study({"theta0": [[0] * 30], "gen_v0": counts})
    bootstrap = resamples(results)
    rows = answered(results)
    assert rows.values("of") == [PAIRS]
    alone = Bootstrap(np.ones((500, 1)), bootstrap.tasks, 0.95)
    small, large = (np.array([[chance(c, k) for c in row] for row in counts]) for k in (8, 16))
    outcomes: Counter[str] = Counter()
    slower = []
    for start, first, last in permutations(range(3), 3):
        change = (alone("hard", (level[last] - level[start])[None]) for level in (small, large))
        second = alone("hard", (small[last] - 2 * small[first] + small[start])[None])
        outcomes[conclude(next(change), next(change), second, results.analysis)] += 1
        slower.append(second.p_below <= 0.05)
    assert len(outcomes) > 1
    assert shares(rows, PAIRS) == {name: outcomes[name] / 6 for name in VERDICTS}
    assert rows.one(quantity=rate("deceleration")).estimate == np.mean(slower) > 0


def test_two_trajectories_make_no_second_difference() -> None:
    results = counted_study({"theta0": [[0] * 6], "gen_v0": [[0, 3, 9, 20, 4, 1], [9, 8, 12, 30, 9, 4]]})
    rows = answered(results)
    assert rows.one(quantity=STUDIES).estimate == 2
    assert rows.first(quantity=rate("deceleration")) is None and rows.first(quantity=SECOND) is None
    assert rows.one(quantity=NULL_CHANGE, k=8).estimate == pytest.approx(0)


def test_a_single_study_has_no_null() -> None:
    results = study(tasks=4)
    assert null(results, None, resamples(results)) == ([], {"samples": {}, "restarted": 0})


def test_refuses_a_pool_too_small_for_its_k() -> None:
    short = counted_study({"theta0": [[0] * 3], "gen_v0": [[1, 2, 3]]}, n=15, fresh=[[1, 2, 3]])
    with pytest.raises(UserError, match="pass@16 needs 32 samples a task or more of gen_v0 on the hard bank"):
        answered(short)


def test_refuses_pools_of_other_trajectories_and_models() -> None:
    four = study(tasks=4, n=8, split_seeds=2, trajectories=4, doubled=True)
    pools = null_pools(four).pools
    left = {key: pool for key, pool in pools.items() if key.trajectory != 2}
    with pytest.raises(
        UserError, match=r"null pools of gen_v0 on hard .* \[0, 1, 3\], not of \[0, 1, 2, 3\]"
    ):
        replace(four, parts={"null": NullPools(left)})
    with pytest.raises(UserError, match="is not of gen_v0 under the primary split 1234"):
        replace(
            four, parts={"null": NullPools({key._replace(model="v1"): own for key, own in pools.items()})}
        )


def test_the_null_of_fewer_trajectories_is_that_of_their_study() -> None:
    doubled = study(trajectories=3, doubled=True)
    pools = {key: pool for key, pool in null_pools(doubled).pools.items() if key.trajectory < 2}
    fewer = replace(doubled, parts={"null": NullPools(pools)})
    two = replace(doubled.first_trajectories(2), parts={"null": NullPools(pools)})
    rows = [answered(results).where(of=HALVINGS) for results in (fewer, two)]
    assert list(rows[0]) == list(rows[1]) != []


def test_spread_is_central() -> None:
    ninety = replace(study(tasks=4), analysis=AnalysisConfig(level=0.9, large_k=16))
    (row,) = spread(ninety, NULL_CHANGE, "hard", [1], np.arange(101.0)[:, None], HALVINGS)
    assert row.estimate == 50 and row.interval == pytest.approx((5, 95))


def test_a_critic_of_permuted_scores_gains_nothing_on_average() -> None:
    drawn = study(tasks=40, trajectories=2, doubled=True)
    rows, replicates = answered(drawn).where(of=HALVINGS), drawn.analysis.halvings
    found = rows.one(quantity=PICKED)
    low, high = found.interval
    deviation = (high - low) / 2 / 1.96
    assert abs(found.estimate) < 4 * deviation / np.sqrt(replicates) and deviation < 0.02
    assert rows.one(quantity=rate("critic gain")).estimate <= 0.15  # of 40
    for name in ("crossover", "deceleration", "critic gain"):
        plain, corrected = (rows.one(quantity=rate(name + end)).estimate for end in ("", ", corrected"))
        assert corrected <= plain
    claim = critic_gain(drawn, resamples(drawn))
    # the true one is of right programs
    assert isinstance(claim, Claim) and float(claim.estimate.value[0]) > high


def test_parts_of_the_second_difference_have_the_sizes_of_the_study() -> None:
    """The noise of two samples a task, not that of a third of the pool."""
    fair = [[16] * 400]
    sizes = {"theta0": 32, "gen_v0": 32, "v1": 2, "v2": 2}
    counts = {"theta0": [[0] * 400], "gen_v0": fair, "v1": [[1] * 400], "v2": [[1] * 400]}
    small = replace(
        counted_study(counts, n=sizes, fresh=fair),
        analysis=AnalysisConfig(small_k=1, large_k=16, resamples=100, halvings=400),
    )
    rows = answered(small)
    low, high = rows.one(quantity=SECOND).interval
    # Var(v2 - 2 v1 + gen_v0) of means of 2, 2 and 32 of 64 without replacement, nearly (1 + 4) / 8 + 1 / 128
    deviation = np.sqrt((5 / 8 + 1 / 128) / 400)
    assert (high - low) / 2 == pytest.approx(1.96 * deviation, rel=0.15)
    # and of either round's gain: of means of 32 and 2, and of 2 and 2
    for models, variance in ((("gen_v0", "v1"), 1 / 8 + 1 / 128), (("v1", "v2"), 2 / 8)):
        low, high = rows.one(quantity=NULL_GAIN, models=models, of="").interval
        assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(variance / 400), rel=0.15)


@pytest.fixture(scope="module")
def shifted() -> StudyResults:
    """Six trajectories, of which a warm start makes some better than others on every task."""
    rng = np.random.default_rng(0)
    level = rng.uniform(0.1, 0.4, 60)
    counts = [rng.binomial(32, level + shift).tolist() for shift in (0, 0.1, 0, 0.1, 0.2, 0.05)]
    return counted_study({"theta0": [[0] * 60], "gen_v0": counts, "v1": counts, "v2": counts})


@pytest.fixture(scope="module")
def drawn() -> StudyResults:
    return study(tasks=12, trajectories=4, resamples=200)


def test_no_trajectory_plays_two_parts(shifted: StudyResults) -> None:
    for parts in (2, 3):
        found = divisions(shifted, parts)
        assert found.shape == (shifted.analysis.halvings, parts, 6 // parts)
        assert all(len(set(row.ravel())) == 6 for row in found)
    assert len({tuple(row.ravel()) for row in divisions(shifted, 2)}) > 100


def test_verdicts_are_those_of_studies_of_so_many_trajectories(shifted: StudyResults) -> None:
    choice = shifted.analysis
    bootstrap = resamples(shifted)
    rows = Entries(several(shifted, bootstrap))
    assert rows.values("of") == ["pairs, 3 trajectories", "triples, 2 trajectories"]
    counts = [shifted.per_task("hard", "gen_v0", lambda s: s.per_sample(s.right).sum(1))[k] for k in range(6)]
    small, large = (np.array([[chance(int(c), k) for c in row] for row in counts]) for k in (8, 16))  # [K, T]
    two = bootstrap.first_trajectories(2, host_rng(choice.seed, "bootstrap", "null", "triples"))
    outcomes: Counter[str] = Counter()
    for start, first, last in divisions(shifted, 3)[:25]:
        gained, lost = (two("hard", level[last] - level[start]) for level in (small, large))
        second = two("hard", small[last] - 2 * small[first] + small[start])
        outcomes[conclude(gained, lost, second, choice)] += 1
    # of the first pseudo-studies alone
    fewer = replace(shifted, analysis=replace(choice, halvings=25))
    np.testing.assert_array_equal(divisions(fewer, 3), divisions(shifted, 3)[:25])
    some = Entries(several(fewer, resamples(fewer)))
    expected = {name: outcomes[name] / 25 for name in VERDICTS}
    assert shares(some, "triples, 2 trajectories") == expected


def test_several_trajectories_are_rarely_misled_where_one_is_often(shifted: StudyResults) -> None:
    """Another warm start is no learning: over tasks alone it is found all the same."""
    rows = answered(shifted)
    one, of_three = (shares(rows, kind)["compounding"] for kind in (PAIRS, "pairs, 3 trajectories"))
    assert one > 0.2
    assert of_three < one / 3


def test_few_trajectories_cannot_be_divided() -> None:
    for trajectories in (1, 2, 3):
        few = study(tasks=4, trajectories=trajectories, resamples=10)
        assert several(few, resamples(few)) == [] == another_warm_start(few, resamples(few))


def test_reach_of_the_programs_of_either_trajectory(drawn: StudyResults) -> None:
    bootstrap, known, choice = resamples(drawn), known_of(drawn, known_programs(drawn)), drawn.analysis
    answer = null(drawn, None, bootstrap)
    assert answer.facts["restarted"] == 2
    rows = Entries(answer.entries).where(of=RESTARTED)
    programs = known.programs

    def solved(model: str, of: int, asked: np.ndarray, budget: int) -> np.ndarray:
        mass = np.zeros(12)
        np.add.at(mass, programs.task[asked], np.exp(programs.log_prob_of(model, of)[asked]))
        return 1 - (1 - mass) ** budget  # [T]

    changes, rates = [], []
    two = bootstrap.first_trajectories(2, host_rng(choice.seed, "bootstrap", "null", "reach"))
    for starts, lasts in divisions(drawn, 2):
        by_pair = []
        for one, other in zip(starts, lasts, strict=True):
            asked = known.own[one] | known.own[other]
            last = solved("gen_v0", other, asked, 1024)
            before = [solved("theta0", 0, asked, 1024), solved("gen_v0", one, asked, 1024)]
            by_pair.append(np.stack([last - level for level in before], axis=-1))
        changes.append(np.mean(by_pair, axis=(0, 1))[1])
        rates.append(two("hard", np.array(by_pair)).p_above <= 0.05)
    assert rows.one(quantity=rate("expansion of reach")).estimate == np.mean(np.all(rates, axis=1))
    assert rows.one(quantity=rate("reach above the start")).estimate == np.mean(np.array(rates)[:, 1])
    reached = rows.one(quantity=NULL_REACH, k=1024)
    np.testing.assert_allclose(reached.interval, np.quantile(changes, [0.025, 0.975]), atol=1e-9)
    np.testing.assert_allclose(reached.estimate, np.mean(changes), atol=1e-9)


def test_mass_by_class_and_curves_by_bank(drawn: StudyResults) -> None:
    rows, programs = Entries(another_warm_start(drawn, resamples(drawn))), known_programs(drawn)
    # all know the secret ones
    masses = np.array([np.exp(programs.log_prob_of("gen_v0", k))[programs.secret] for k in range(4)])
    halves = divisions(drawn, 2)
    moved = [(masses[last].sum(1) - masses[start].sum(1)).mean() / 12 for start, last in halves]
    ledger = rows.where(quantity=NULL_MASS)
    assert ledger.values("of") == rows.where(quantity=CLASS_REACH).values("of")
    secret = ledger.one(of="secret program")
    assert secret.estimate == pytest.approx(np.mean(moved))
    np.testing.assert_allclose(secret.interval, np.quantile(moved, [0.025, 0.975]))
    whole = sum(ledger.one(of=f"{which} gen_v0's samples").estimate for which in ("in", "not in"))
    assert ledger.one(of="all").estimate == pytest.approx(whole)
    for bank in drawn.tasks:
        # pass@1
        curve = drawn.per_task(bank, "gen_v0", lambda s: s.per_sample(s.right).mean(1)).mean(1)
        moved = [(curve[last] - curve[start]).mean() for start, last in halves]
        interval = rows.one(quantity=NULL_CHANGE, bank=bank, k=1).interval
        np.testing.assert_allclose(interval, np.quantile(moved, [0.025, 0.975]), atol=1e-12)


@pytest.mark.parametrize("n", [16, 32])
def test_each_row_is_of_something_else(n: int) -> None:
    rows = answered(study(tasks=8, n=n, trajectories=6, doubled=True, resamples=20))
    assert len({(row.quantity, row.bank, row.models, row.k, row.of) for row in rows}) == len(rows) > 0
