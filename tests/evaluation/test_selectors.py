import dataclasses
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from constellation.evaluation.selectors import (
    SELECTORS,
    Information,
    Selection,
    best_unlearned,
    combined,
    cut,
    divergence,
    select,
    votes,
)
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet
from tests.evaluation.synthetic import random_set, sample_set


def random_columns(samples: SampleSet, seed: int) -> dict[str, np.ndarray]:
    """Every column a selector can read, with ties; NaN or -1 where a program does not fit."""
    rng = np.random.default_rng(seed)
    size = len(samples.text)
    columns: dict[str, np.ndarray] = {
        name: np.where(samples.fits, rng.integers(-2, 3, size), np.nan)
        for name in ("critic", "prior_critic", "log_likelihood", "posterior")
    }
    return columns | {"probe_cluster": np.where(samples.fits, rng.integers(0, 3, size), -1).astype(np.int32)}


def enumerate_groups(
    samples: SampleSet, k: int, scores: np.ndarray | dict[str, np.ndarray]
) -> dict[str, list[list[float]]]:
    """Every selector by plain loops over tasks, groups and candidates; "divergent" beside them."""
    columns = scores if isinstance(scores, dict) else {"critic": scores}
    names = [name for name, selector in SELECTORS.items() if columns.keys() >= set(selector.needs)]
    result: dict[str, list[list[float]]] = {name: [] for name in (*names, "divergent")}
    for t in range(len(samples.task_ids)):
        rows: dict[str, list[float]] = {name: [] for name in result}
        for start in range(0, samples.n - k + 1, k):
            drawn = [int(p) for p in samples.program[t, start : start + k]]
            alive = [p for p in drawn if samples.fits[p]]
            outputs = {p: int(samples.key[p]) for p in alive}
            rows["divergent"].append(float(len(set(outputs.values())) > 1))
            for name in names:
                rows[name].append(enumerated(name, samples, alive, outputs, columns))
        for name, values in rows.items():
            result[name].append(values)
    return result


def enumerated(
    name: str, samples: SampleSet, alive: list[int], outputs: dict[int, int], columns: dict[str, np.ndarray]
) -> float:
    """One selector on the survivors of one group, in sample order."""
    right = {p: float(samples.right[p]) for p in alive}
    if not alive:
        return 0.0
    if name == "uniform":
        return float(np.mean([right[p] for p in set(alive)]))
    label = {p: int(columns["probe_cluster"][p]) for p in alive} if name.startswith("probe_") else outputs
    mass: dict[int, float] = defaultdict(float)
    for p in alive:
        mass[label[p]] += 1 if name.endswith("majority") else float(expit(columns["critic"][p]))
    worth: dict[str, Callable[[int], float]] = {
        "naive": lambda p: 0,
        "shortest": lambda p: -samples.length[p],
        "likeliest": lambda p: columns["log_likelihood"][p],
        "prior_critic": lambda p: columns["prior_critic"][p],
        "critic": lambda p: columns["critic"][p],
        "ideal_critic": lambda p: columns["posterior"][p],
        "oracle": lambda p: right[p],
    }
    return right[max(alive, key=worth.get(name, lambda p: mass[label[p]]))]  # the first of several


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3, 5, 12]))
def test_every_selector_is_its_enumeration(seed: int, k: int) -> None:
    samples = random_set(seed)
    columns = random_columns(samples, seed)
    expected = {name: np.array(rows) for name, rows in enumerate_groups(samples, k, columns).items()}
    found = select(samples, k, columns)
    assert list(found.accuracy) == list(SELECTORS)
    np.testing.assert_allclose(found.divergent, expected["divergent"].mean(1))
    for name in SELECTORS:
        np.testing.assert_allclose(found.accuracy[name], expected[name].mean(1), err_msg=name)
        both = (expected[name] * expected["divergent"]).mean(1)
        np.testing.assert_allclose(found.on_divergent[name], both, err_msg=name)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([2, 4, 6]))
def test_selectors_differ_on_divergent_groups_alone(seed: int, k: int) -> None:
    samples = random_set(seed)
    groups = cut(samples, k, random_columns(samples, seed))
    picks = np.array([selector.hits(groups) for selector in SELECTORS.values()])  # [selectors, T, G]
    assert (np.ptp(picks, axis=0)[~groups.divergent()] == 0).all()
    assert (picks <= SELECTORS["oracle"].hits(groups)).all()


def test_agreeing_survivors_that_are_judged_differently_are_refused() -> None:
    samples = sample_set([["right a", "right bb", "bad"]])
    few = dataclasses.replace(samples.judged(), right=samples.right & (samples.text == "right a"))
    wrong = dataclasses.replace(samples, verdicts=few)
    columns = {"log_likelihood": np.array([-2.0, -1.0, np.nan])}
    assert select(samples, 3, columns).accuracy["likeliest"] == [1.0]
    with pytest.raises(AssertionError, match="naive"):
        select(wrong, 3, columns)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([2, 4, 6]))
def test_a_selector_knows_no_more_than_it_declares(seed: int, k: int) -> None:
    samples = random_set(seed)
    full = cut(samples, k, random_columns(samples, seed))
    shuffled = np.random.default_rng(seed).permutation(full.cluster.ravel()).reshape(full.cluster.shape)
    for name, selector in SELECTORS.items():
        groups = dataclasses.replace(full, columns={need: full.columns[need] for need in selector.needs})
        hits = selector.hits(groups)
        if selector.information < Information.HELD_OUT_INPUTS:
            blind = dataclasses.replace(groups, cluster=shuffled)
            np.testing.assert_array_equal(selector.hits(blind), hits, err_msg=name)
        if selector.information < Information.HELD_OUT_OUTPUTS:  # right or wrong, the pick is the same
            inverse = selector.hits(dataclasses.replace(groups, correct=~groups.correct))
            np.testing.assert_allclose(hits + inverse, groups.survives.any(-1), err_msg=name)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_votes_are_counted_within_a_group_among_survivors(seed: int, k: int) -> None:
    samples = random_set(seed)
    groups = cut(samples, k)
    weight = np.random.default_rng(seed).random(groups.cluster.shape)
    same = groups.cluster[..., :, None] == groups.cluster[..., None, :]  # [T, G, k, k]
    expected = (same * (groups.survives * weight)[..., None, :]).sum(-1)
    np.testing.assert_allclose(votes(groups, groups.cluster, weight), expected, atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([2, 4, 12]))
def test_an_ignorant_critic_leaves_the_majority(seed: int, k: int) -> None:
    samples = random_set(seed)
    columns = random_columns(samples, seed) | {"critic": np.zeros(len(samples.text))}
    accuracy = select(samples, k, columns).accuracy
    np.testing.assert_array_equal(accuracy["critic"], accuracy["naive"])
    np.testing.assert_array_equal(accuracy["critic_mass"], accuracy["majority"])
    np.testing.assert_array_equal(accuracy["probe_critic_mass"], accuracy["probe_majority"])


def test_critic_mass_is_bounded_and_counts_samples() -> None:
    samples = sample_set([["fits:x:1", "right a", "right a", "right a"]])
    scores = np.array([9.0, 0.0])  # of the two programs: surely right, and undecided
    accuracy = select(samples, 4, scores).accuracy
    assert accuracy["critic"] == [0.0] and accuracy["critic_mass"] == [1.0]
    scores = np.array([9.0, -1.0])  # three of 0.27 are less than one of 1
    assert select(samples, 4, scores).accuracy["critic_mass"] == [0.0]


def test_a_selector_without_its_columns_is_left_out() -> None:
    samples = random_set(1)
    plain = {"naive", "uniform", "shortest", "majority", "oracle"}
    assert select(samples, 2).accuracy.keys() == plain
    scored = select(samples, 2, np.zeros(len(samples.text))).accuracy.keys()
    assert scored == plain | {"critic", "critic_mass"}
    clustered = select(samples, 2, {"probe_cluster": samples.key}).accuracy
    assert clustered.keys() == plain | {"probe_majority"}
    np.testing.assert_array_equal(clustered["probe_majority"], clustered["majority"])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"critics": np.zeros(3)}, "no selector reads a column 'critics'"),
        ({"critic": np.zeros(2)}, "for 3 distinct programs"),
        ({"log_likelihood": np.array([0, -np.inf, 0])}, "no log-likelihood"),
        ({"prior_critic": np.array([0, np.nan, 0])}, "no prior-only critic score"),
        ({"probe_cluster": np.array([-1, 0, 0])}, "no probe cluster"),
    ],
)
def test_refuses_columns_that_are_not_the_samples_own(columns: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(sample_set([["right a", "fits:x:1", "bad"]]), 3, columns)


def test_one_candidate_leaves_no_choice() -> None:
    samples = random_set(3, tasks=20)
    selection = select(samples, 1, np.zeros(len(samples.text)))
    share = samples.per_sample(samples.right).mean(1)  # pass@1
    for name, accuracy in selection.accuracy.items():
        np.testing.assert_allclose(accuracy, share, err_msg=name)
    assert (selection.divergent == 0).all()


def test_left_over_samples_are_not_a_group() -> None:
    samples = sample_set([["right a", "junk", "fits:x:1", "junk", "right a"]])
    assert cut(samples, 2).survives.shape == (1, 2, 2)


def test_a_score_decides_between_survivors_and_only_there() -> None:
    samples = sample_set([["fits:x:1", "bad", "right a"]])
    row = {text: i for i, text in enumerate(samples.text)}
    scores = np.full(3, np.nan)
    scores[row["fits:x:1"]], scores[row["right a"]] = -1.0, 2.0
    assert select(samples, 3, scores).accuracy["critic"] == [1.0]
    scores[row["right a"]] = -2.0
    assert select(samples, 3, scores).accuracy["critic"] == [0.0]
    scores[row["right a"]] = np.nan
    with pytest.raises(UserError, match="no critic score"):
        select(samples, 3, scores)


def test_majority_counts_samples_not_programs() -> None:
    samples = sample_set([["fits:x:1", "fits:x:2", "right a", "right a", "right a"]])
    assert select(samples, 5).accuracy["majority"] == [1.0]
    assert select(samples, 5).accuracy["uniform"] == pytest.approx([1 / 3])


def test_split_seeds_average_within_a_task() -> None:
    sets = [random_set(seed) for seed in (1, 2)]
    found = [select(samples, 3, random_columns(samples, 0)) for samples in sets]
    mean = combined(found, lambda arrays: np.mean(arrays, axis=0))
    np.testing.assert_allclose(mean.divergent, (found[0].divergent + found[1].divergent) / 2)
    for name in SELECTORS:
        accuracy = (found[0].accuracy[name] + found[1].accuracy[name]) / 2
        np.testing.assert_allclose(mean.accuracy[name], accuracy, err_msg=name)
        both = combined(found).on_divergent[name]
        np.testing.assert_array_equal(both, [one.on_divergent[name] for one in found])


def test_divergence_needs_two_outputs_among_survivors() -> None:
    rows = [["right a", "false a"], ["right a", "bad"], ["fits:x:1", "right a"], ["junk", "bad"]]
    np.testing.assert_array_equal(divergence(sample_set(rows), 2), [0, 0, 1, 0])


def test_refuses_groups_larger_than_the_pool() -> None:
    with pytest.raises(UserError, match="at least 64 samples"):
        divergence(random_set(0), 64)


def selection_with(**accuracy: float) -> Selection:
    return Selection({name: np.full(3, value) for name, value in accuracy.items()}, np.ones(3), {})


def test_the_rival_is_the_best_that_knows_no_more_and_learned_nothing() -> None:
    tuning = selection_with(
        naive=0.3, shortest=0.5, probe_majority=0.5, majority=0.6, prior_critic=0.7, critic=0.4, oracle=0.9
    )
    assert best_unlearned(tuning) == best_unlearned(tuning, "prior_critic") == "shortest"  # the earlier
    assert best_unlearned(tuning, "critic_mass") == "majority"
    assert best_unlearned(selection_with(naive=0.6, majority=0.5), "critic_mass") == "naive"


def test_learned_selectors_have_an_unlearned_one_of_their_information() -> None:
    for information in (Information.VISIBLE, Information.HELD_OUT_INPUTS):
        kinds = {s.learned for s in SELECTORS.values() if s.information == information}
        assert kinds == {True, False}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([2, 4, 6]))
def test_the_room_is_won_on_divergent_groups(seed: int, k: int) -> None:
    samples = random_set(seed)
    found = select(samples, k, random_columns(samples, seed))
    won, size = found.gain(), found.gain("oracle")
    np.testing.assert_allclose(won, found.on_divergent["critic"] - found.on_divergent["naive"], atol=1e-15)
    assert (won <= size).all() and (size >= 0).all()


def test_share_of_the_room_is_a_ratio_of_means() -> None:
    rows = [
        ["fits:x:1", "right a", "fits:x:1", "right a"],  # the critic wins one group of two
        ["fits:x:1", "right a", "right a", "right a"],  # and one where only one can be won
        ["right a", "fits:x:1", "bad", "bad"],  # and loses one where nothing can be
        ["bad", "bad", "bad", "bad"],
    ]
    samples = sample_set(rows)
    right = samples.right
    task = samples.task
    scores = np.where(task == 2, ~right, right).astype(float)
    found = select(samples, 2, scores)
    won, size = found.gain(), found.gain("oracle")
    np.testing.assert_allclose(won, [1.0, 0.5, -0.5, 0.0])
    np.testing.assert_allclose(size, [1.0, 0.5, 0.0, 0.0])
    assert won.sum() / size.sum() == pytest.approx(1.0 / 1.5)
