from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.errors import UserError
from constellation.evaluation.selection import SELECTORS, Selection, cut, divergence, select
from constellation.samples import SampleSet
from tests.evaluation.synthetic import random_set, sample_set


def enumerate_groups(samples: SampleSet, k: int, scores: np.ndarray) -> dict[str, list[list[float]]]:
    """Every selector by plain loops over tasks, groups and candidates; "divergent" beside them."""
    result: dict[str, list[list[float]]] = {name: [] for name in (*SELECTORS, "divergent")}
    for t in range(len(samples.task_ids)):
        rows: dict[str, list[float]] = {name: [] for name in result}
        for start in range(0, samples.n - k + 1, k):
            drawn = [int(p) for p in samples.program[t, start : start + k]]
            alive = [p for p in drawn if samples.fits[p]]
            right = {p: float(samples.generalises[p]) for p in alive}
            outputs = [int(samples.output_cluster[p]) for p in alive]
            rows["divergent"].append(float(len(set(outputs)) > 1))
            if not alive:
                for name in SELECTORS:
                    rows[name].append(0.0)
                continue
            votes = Counter(outputs)
            most = max(votes.values())
            rows["naive"].append(right[alive[0]])
            rows["uniform"].append(float(np.mean([right[p] for p in set(alive)])))
            rows["shortest"].append(right[min(alive, key=lambda p: samples.length[p])])
            winner = next(p for p, o in zip(alive, outputs, strict=True) if votes[o] == most)
            rows["majority"].append(right[winner])
            rows["critic"].append(right[max(alive, key=lambda p: scores[p])])
            rows["oracle"].append(max(right.values()))
        for name, values in rows.items():
            result[name].append(values)
    return result


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3, 5, 12]))
def test_every_selector_is_its_enumeration(seed: int, k: int) -> None:
    samples = random_set(seed)
    scores = np.random.default_rng(seed).integers(0, 3, len(samples.text)).astype(float)  # with ties
    expected = {name: np.array(rows) for name, rows in enumerate_groups(samples, k, scores).items()}
    found = select(samples, k, scores)
    np.testing.assert_allclose(found.divergent, expected["divergent"].mean(1))
    for name in SELECTORS:
        np.testing.assert_allclose(found.accuracy[name], expected[name].mean(1), err_msg=name)
        both = (expected[name] * expected["divergent"]).mean(1)
        np.testing.assert_allclose(found.on_divergent[name], both, err_msg=name)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([2, 4, 6]))
def test_selectors_differ_on_divergent_groups_alone(seed: int, k: int) -> None:
    samples = random_set(seed)
    groups = cut(samples, k, np.random.default_rng(seed).normal(size=len(samples.text)))
    picks = np.array([run(groups) for run in SELECTORS.values()])  # [selectors, T, G]
    assert (np.ptp(picks, axis=0)[~groups.divergent()] == 0).all()
    assert (picks <= SELECTORS["oracle"](groups)).all()


def test_one_candidate_leaves_no_choice() -> None:
    samples = random_set(3, tasks=20)
    selection = select(samples, 1, np.zeros(len(samples.text)))
    share = samples.per_sample(samples.generalises).mean(1)  # pass@1
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
    found = [select(random_set(seed), 3) for seed in (1, 2)]
    mean = Selection.mean(found)
    np.testing.assert_allclose(mean.divergent, (found[0].divergent + found[1].divergent) / 2)
    naive = (found[0].accuracy["naive"] + found[1].accuracy["naive"]) / 2
    np.testing.assert_allclose(mean.accuracy["naive"], naive)


def test_divergence_needs_two_outputs_among_survivors() -> None:
    rows = [["right a", "false a"], ["right a", "bad"], ["fits:x:1", "right a"], ["junk", "bad"]]
    np.testing.assert_array_equal(divergence(sample_set(rows), 2), [0, 0, 1, 0])


def test_refuses_groups_larger_than_the_pool() -> None:
    with pytest.raises(UserError, match="at least 64 samples"):
        divergence(random_set(0), 64)
