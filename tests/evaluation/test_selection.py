from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from constellation.evaluation import selection
from constellation.evaluation.analysis import resamples
from constellation.evaluation.claims import Claim, NotMeasured
from constellation.evaluation.entries import Entries
from constellation.evaluation.question import Answer
from constellation.evaluation.selection import (
    ACCURACY,
    GAIN,
    LEAD,
    RIVAL,
    ROOM,
    Selectors,
    critic_gain,
    selectors_of,
)
from constellation.evaluation.selectors import SELECTORS, cut
from constellation.evaluation.study import SetKey, StudyResults
from constellation.runtime.errors import UserError
from tests.evaluation.counted import counted_study
from tests.evaluation.synthetic import random_set, study
from tests.evaluation.test_selectors import enumerate_groups

SEEDS, TRAJECTORIES = (4, 5), 3


def with_part(results: StudyResults, part: Selectors) -> StudyResults:
    return replace(results, parts={**results.parts, "selection": part})


def answered(results: StudyResults) -> Answer:
    return selection.selection(results, selectors_of(results), resamples(results))


def rows_of(results: StudyResults) -> Entries:
    return Entries(answered(results).entries)


def critic_scores(sets: dict) -> dict:
    return {
        key: {"critic": np.random.default_rng(key.trajectory).normal(size=len(s.text))}
        for key, s in sets.items()
    }


@pytest.fixture(scope="module")
def scored() -> StudyResults:
    """Three trajectories, two split seeds of gen_v0's candidates with a critic that guesses."""
    sets = {
        SetKey("hard", "gen_v0", seed, k): random_set(10 * seed + k, tasks=15, n=24)
        for seed in SEEDS
        for k in range(TRAJECTORIES)
    }
    others = {SetKey("hard", "v1", 4, k): random_set(k, tasks=15, n=24) for k in range(TRAJECTORIES)}
    base = {SetKey("hard", "theta0", 4): random_set(99, tasks=15, n=24)}
    plain = counted_study({"theta0": [[1] * 15], "gen_v0": [[1] * 15] * 3, "v1": [[1] * 15] * 3}, n=24)
    return replace(
        plain,
        samples={**sets, **others, **base},
        parts={"selection": Selectors("gen_v0", critic_scores(sets))},
    )


def by_loops(results: StudyResults, k: int) -> dict[str, np.ndarray]:
    """Selector -> [S, K, T], and "divergent", with "gain" on divergent groups."""
    found: dict[str, list[list[np.ndarray]]] = {}
    for seed in SEEDS:
        rows: dict[str, list[np.ndarray]] = {}
        for trajectory in range(TRAJECTORIES):
            key = SetKey("hard", "gen_v0", seed, trajectory)
            picked = enumerate_groups(results.samples[key], k, selectors_of(results).columns[key]["critic"])
            for name, values in picked.items():
                rows.setdefault(name, []).append(np.array(values).mean(1))
        for name, row in rows.items():
            found.setdefault(name, []).append(row)
    return {name: np.array(rows) for name, rows in found.items()}


def test_gain_averages_split_seeds_within_a_task(scored: StudyResults) -> None:
    claim = critic_gain(scored, resamples(scored))
    assert isinstance(claim, Claim)
    expected = by_loops(scored, 8)
    gains = expected["critic"] - expected["naive"]
    np.testing.assert_allclose(claim.values[..., 0], gains.mean(0), atol=1e-12)
    assert claim.details["per_split"] == pytest.approx(dict(zip(SEEDS, gains.mean((1, 2)), strict=True)))
    assert claim.details["positive_splits"] == (gains.mean((1, 2)) > 0).sum()
    assert claim.details["divergent_share"] == pytest.approx(expected["divergent"].mean())
    # everything is won on divergent groups
    on_divergent = claim.details["on_divergent"]["estimate"] * claim.details["divergent_share"]
    assert on_divergent == pytest.approx(gains.mean())


def test_at_a_large_k_only_the_splits_with_so_many_candidates_count(scored: StudyResults) -> None:
    short = {SetKey("hard", "gen_v0", 5, k): random_set(50 + k, tasks=15, n=8) for k in range(TRAJECTORIES)}
    columns = {**selectors_of(scored).columns, **critic_scores(short)}
    mixed = replace(
        scored, samples={**scored.samples, **short}, parts={"selection": Selectors("gen_v0", columns)}
    )
    found, all_of_them = (
        {place[2]: selection.picked(results, selectors_of(results), place) for place in places}
        for results in (mixed, scored)
        for places in [selectors_of(results).places(results)]
    )
    assert {k: len(pick.divergent) for k, pick in found.items()} == {2: 2, 4: 2, 8: 2, 16: 1}
    wide = all_of_them[16].accuracy["critic"][0]  # of split seed 4, which both have
    np.testing.assert_array_equal(found[16].accuracy["critic"][0], wide)


def test_selectors_over_trajectories(scored: StudyResults) -> None:
    rows = rows_of(scored)
    assert rows.where(quantity=ACCURACY).values("k") == [2, 4, 8, 16]  # 24 samples hold no group of 32
    for k in (2, 8):
        expected = by_loops(scored, k)
        for name in ("naive", "uniform", "majority", "oracle"):
            accuracy, gain = (rows.one(quantity=quantity, k=k, of=name) for quantity in (ACCURACY, GAIN))
            assert accuracy.estimate == pytest.approx(expected[name].mean())
            gained = (expected[name] - expected["naive"]).mean()
            assert gain.estimate == pytest.approx(gained, abs=1e-12)


def test_a_critic_may_score_the_base() -> None:
    """Of which every trajectory has the same candidates."""
    results = study(tasks=6, trajectories=2)
    key, part = SetKey("hard", "theta0", 1234), selectors_of(results)
    scores = {key: {"critic": np.where(results.samples[key].fits, 1.0, np.nan)}}
    part = replace(part, columns={**part.columns, **scores})
    accuracy = selection.picked(with_part(results, part), part, ("hard", "theta0", 8)).accuracy["critic"]
    assert accuracy.shape == (1, 2, 6)
    np.testing.assert_array_equal(accuracy[:, 0], accuracy[:, 1])


def test_without_scores_there_is_nothing_to_measure() -> None:
    results = counted_study({"theta0": [[0, 1]], "gen_v0": [[1, 2]]})
    claim = critic_gain(results, resamples(results))
    assert isinstance(claim, NotMeasured) and "no critic scored" in claim.reason


@pytest.fixture(scope="module")
def results() -> StudyResults:
    drawn = study(tasks=40, n=16, trajectories=2, selectors=True, resamples=100)
    return replace(drawn, analysis=replace(drawn.analysis, small_k=8))


@pytest.fixture(scope="module")
def found(results: StudyResults) -> Answer:
    return answered(results)


@pytest.fixture(scope="module")
def rows(found: Answer) -> Entries:
    return Entries(found.entries)


def hits(results: StudyResults, model: str, k: int, name: str) -> float:
    """Mean over split seeds and trajectories on the hard bank."""
    columns = {key: own for key, own in selectors_of(results).columns.items() if key[:2] == ("hard", model)}
    groups = [cut(results.samples[key], k, own) for key, own in columns.items()]
    return float(np.mean([SELECTORS[name].hits(group) for group in groups]))


def test_the_extension_is_the_critic_minus_the_rival_of_the_tuning_tasks(
    results: StudyResults, found: Answer, rows: Entries
) -> None:
    extension, sets = found.facts["extension"], selectors_of(results).tuning
    tuning = {
        name: np.mean([SELECTORS[name].hits(cut(samples, 8, columns)) for samples, columns in sets])
        for name in ("naive", "uniform", "shortest", "likeliest", "probe_majority")
    }
    assert extension["rival"] == max(tuning, key=lambda name: tuning[name])
    for name, value in tuning.items():
        row = rows.one(quantity=ACCURACY, bank="tuning", models=("gen_v0",), k=8, of=name)
        assert row.estimate == pytest.approx(value)
    expected = hits(results, "gen_v0", 8, "critic") - hits(results, "gen_v0", 8, extension["rival"])
    assert extension["estimate"] == pytest.approx(expected)
    assert extension["rival"] in extension["sentence"]
    widths = {name: np.diff(extension[f"interval_{name}"])[0] for name in ("bootstrap", "student")}
    assert np.diff(extension["interval"])[0] == max(widths.values()) > min(widths.values())
    assert 0 < extension["minimum_detectable_effect"] < 0.5
    row = rows.one(quantity=RIVAL, bank="hard", models=("gen_v0",), k=8, of="critic")
    assert row.estimate == pytest.approx(expected) and not row.tested


def test_every_learned_selector_meets_a_rival_that_knows_no_more(found: Answer, rows: Entries) -> None:
    assert found.facts["rivals"]
    for k, rivals in found.facts["rivals"].items():
        at = rows.where(quantity=RIVAL, bank="hard", models=("v2",), k=k)
        assert set(at.values("of")) == {"critic", "prior_critic", "critic_mass", "probe_critic_mass"}
        assert all(row.tested for row in at)
        for name in at.values("of"):
            rival = SELECTORS[rivals[name]]
            assert not rival.learned and rival.information <= SELECTORS[name].information


def test_without_tuning_tasks_the_extension_is_not_measured(results: StudyResults) -> None:
    columns = {key: {"critic": own["critic"]} for key, own in selectors_of(results).columns.items()}
    found = answered(with_part(results, Selectors("gen_v0", columns)))
    extension, rows = found.facts["extension"], Entries(found.entries)
    assert extension["estimate"] is None and "Not measured: no 8 candidates" in extension["sentence"]
    assert not rows.where(quantity=RIVAL)
    room = rows.one(quantity=ROOM, bank="hard", models=("gen_v0",), k=8, of="critic")
    assert room.estimate > 0


def test_room_is_a_ratio_of_means(results: StudyResults, rows: Entries) -> None:
    naive, critic, oracle = (hits(results, "v2", 4, name) for name in ("naive", "critic", "oracle"))
    room = rows.one(quantity=ROOM, bank="hard", models=("v2",), k=4, of="critic")
    assert room.estimate == pytest.approx((critic - naive) / (oracle - naive))


@pytest.mark.parametrize("model", ["gen_v0", "v2"])
def test_fixed_tasks_are_those_on_which_other_groups_of_the_start_diverge(
    results: StudyResults, model: str
) -> None:
    part, (place, single) = selectors_of(results), [("hard", model, k) for k in (4, 16)]
    picks = {place: selection.picked(results, part, place) for place in (place, single)}
    won, size = selection.on_fixed_tasks(results, part, place, picks[place]) or pytest.fail()
    assert size.any()
    seeds = part.splits(results, "hard", model)
    for name, values in (("critic", won), ("oracle", size)):
        expected = np.zeros_like(values)
        for seed in seeds:
            for trajectory in range(2):
                key = SetKey("hard", model, seed, trajectory)
                start = key._replace(model="gen_v0")
                groups = cut(results.samples[key], 4, part.columns[key])
                lead = SELECTORS[name].hits(groups) - SELECTORS["naive"].hits(groups)  # [T, G]
                weight = cut(results.samples[start], 4).divergent()  # [T, G]
                pairs = (
                    [weight[:, g] * lead[:, h] for g, h in permutations(range(4), 2)]
                    if model == "gen_v0"
                    else [weight[:, g] * lead[:, h] for g in range(4) for h in range(4)]
                )
                expected[trajectory] += np.mean(pairs, axis=0) / len(seeds)
        np.testing.assert_allclose(values, expected, atol=1e-12)
    # one group: no other to compare with
    alone = selection.on_fixed_tasks(results, part, single, picks[single])
    assert (alone is None) == (model == "gen_v0")


def test_the_rival_is_chosen_at_no_k_that_the_tuning_pools_cannot_fill() -> None:
    small = selectors_of(study(n=8, selectors=True))
    assert set(selection.tuned(small, (2, 4, 8, 16))) == {2, 4, 8}


def test_columns_without_scores_or_unlike_ones_are_refused(results: StudyResults) -> None:
    part, key = selectors_of(results), SetKey("hard", "gen_v0", 1234)
    less = {**part.columns, key: {"critic": part.columns[key]["critic"]}}
    with pytest.raises(UserError, match="differ in their selector columns"):
        with_part(results, replace(part, columns=less))
    keys = [SetKey("withheld", "gen_v0", 1234, k) for k in range(2)]
    with pytest.raises(UserError, match="has selector columns and no critic scores"):
        with_part(results, replace(part, columns={**part.columns, **{key: {} for key in keys}}))


def test_scores_of_every_trajectory_are_needed(results: StudyResults) -> None:
    part = selectors_of(results)
    first = {key: own for key, own in part.columns.items() if key.trajectory == 0}
    with pytest.raises(UserError, match=r"critic scores of .* of trajectories \[0\], not of \[0, 1\]"):
        with_part(results, replace(part, columns=first))


def test_splits_are_those_with_so_many_candidates(results: StudyResults) -> None:
    part = selectors_of(results)
    assert part.splits(results, "hard", "gen_v0", 16) == [1234, 1235, 1236]
    assert part.splits(results, "hard", "gen_v0", 17) == part.splits(results, "hard", "v1") == []


def test_a_lead_of_nothing_is_found_as_often_as_alpha(results: StudyResults) -> None:
    rng, bootstrap = np.random.default_rng(0), resamples(results)
    lead = rng.normal(0.5, 1, (2, 40))  # a true one: exchanged on half of the tasks, nothing is left of it
    many = replace(results, analysis=replace(results.analysis, halvings=400))
    assert 0.0 < selection.exchanged_rate(many, bootstrap, "hard", lead) < 0.12
    assert selection.exchanged_rate(many, bootstrap, "hard", np.zeros((2, 40))) == 0


def test_all_of_the_critic_that_is_not_primary_is_tested() -> None:
    rows = rows_of(study(rounds=3, trajectories=2))
    critic = {
        (bank, (model,), k)
        for bank in ("easy", "hard")
        for model in ("gen_v0", "v3")
        for k in (2, 4, 8, 16, 32)
    }
    tested = {(row.bank, row.models, row.k) for row in rows.where(quantity=GAIN, of="critic", tested=True)}
    assert tested == critic - {("hard", ("gen_v0",), 8)}


def test_every_selector_has_its_lead_tested() -> None:
    drawn = study(selectors=True, tasks=8, resamples=100)
    rows, place = rows_of(drawn), ("hard", "gen_v0", 8)
    found = selection.picked(drawn, selectors_of(drawn), place)
    others = set(found.accuracy) - {"critic", "naive", "oracle"}
    at = rows.where(bank="hard", models=("gen_v0",), k=8, tested=True)
    assert set(at.where(quantity=GAIN).values("of")) == others
    leads = at.where(quantity=LEAD)
    assert set(leads.values("of")) == {f"critic minus {name}" for name in others} | {
        "critic_mass minus majority"
    }
    lead = resamples(drawn)("hard", found.gain("critic", "majority").mean(0))
    assert leads.one(of="critic minus majority").estimate == pytest.approx(float(lead.value))
