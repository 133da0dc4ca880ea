import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.evaluation.selection import SELECTORS, Information, Selection, select
from constellation.evaluation.selector_comparison import best_unlearned, gain, room, selection_over_k
from tests.evaluation.synthetic import random_set, sample_set
from tests.evaluation.test_selection import random_columns


def test_every_k_is_averaged_over_the_sets() -> None:
    sets = [random_set(seed) for seed in (1, 2)]
    columns = [random_columns(samples, 0) for samples in sets]
    table = selection_over_k(list(zip(sets, columns, strict=True)), [12, 2])
    assert list(table) == [12, 2]
    for k, found in table.items():
        parts = [select(sets[i], k, columns[i]) for i in (0, 1)]
        for name in SELECTORS:
            expected = (parts[0].accuracy[name] + parts[1].accuracy[name]) / 2
            np.testing.assert_allclose(found.accuracy[name], expected, err_msg=name)


def of_accuracy(**accuracy: float) -> Selection:
    return Selection({name: np.full(3, value) for name, value in accuracy.items()}, np.ones(3), {})


def test_the_rival_is_the_best_that_knows_no_more_and_learned_nothing() -> None:
    tuning = of_accuracy(
        naive=0.3, shortest=0.5, probe_majority=0.5, majority=0.6, prior_critic=0.7, critic=0.4, oracle=0.9
    )
    assert best_unlearned(tuning) == best_unlearned(tuning, "prior_critic") == "shortest"  # the earlier
    assert best_unlearned(tuning, "critic_mass") == "majority"
    assert best_unlearned(of_accuracy(naive=0.6, majority=0.5), "critic_mass") == "naive"


def test_learned_selectors_have_an_unlearned_one_of_their_information() -> None:
    for information in (Information.VISIBLE, Information.HELD_OUT_INPUTS):
        kinds = {s.learned for s in SELECTORS.values() if s.information == information}
        assert kinds == {True, False}


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.sampled_from([2, 4, 6]))
def test_the_room_is_won_on_divergent_groups(seed: int, k: int) -> None:
    samples = random_set(seed)
    found = select(samples, k, random_columns(samples, seed))
    won, size = room(found)
    np.testing.assert_array_equal(won, gain(found))
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
    right = samples.generalises
    task = samples.task
    scores = np.where(task == 2, ~right, right).astype(float)
    found = select(samples, 2, scores)
    won, size = room(found)
    np.testing.assert_allclose(won, [1.0, 0.5, -0.5, 0.0])
    np.testing.assert_allclose(size, [1.0, 0.5, 0.0, 0.0])
    assert won.sum() / size.sum() == pytest.approx(1.0 / 1.5)
