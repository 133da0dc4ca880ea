"""Packing: whatever shares a row, a prediction sees its own prompt and answer and nothing else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from constellation.runtime.keys import host_rng
from constellation.selftraining import batches
from constellation.selftraining.batches import (
    Batch,
    TrainingExample,
    collate,
    draw_batches,
    pack,
    without_prefix,
)
from constellation.selftraining.update import visible


def example(rng: np.random.Generator, prompt: int, *answers: int, loss_from: int = 0) -> TrainingExample:
    def tokens(count: int) -> np.ndarray:
        return rng.integers(0, 50, count).astype(np.int32)

    return TrainingExample(tokens(prompt), tuple(map(tokens, answers)), (loss_from,) * len(answers))


def predictions(batch: Batch) -> Counter[tuple[tuple[int, ...], int]]:
    """What every target is predicted from: (the tokens that its source sees, by position; the target)."""
    mask = np.asarray(visible(batch))
    found: Counter[tuple[tuple[int, ...], int]] = Counter()
    for row, slot in np.argwhere(batch.target >= 0):
        keys = np.flatnonzero(mask[row, batch.source[row, slot]])
        positions = batch.positions[row, keys]
        assert sorted(positions) == list(range(len(keys)))  # each position once
        context = batch.tokens[row, keys][np.argsort(positions)]
        found[tuple(context.tolist()), int(batch.target[row, slot])] += 1
    return found


def expected(examples: list[TrainingExample]) -> Counter[tuple[tuple[int, ...], int]]:
    return Counter(
        (tuple([*one.prompt.tolist(), *answer[:i].tolist()]), int(answer[i]))
        for one in examples
        for answer, first in zip(one.answers, one.loss_from, strict=True)
        for i in range(first, len(answer))
    )


@pytest.mark.parametrize("max_width", [256, 30], ids=["whole", "divided"])
def test_every_target_is_predicted_from_its_own_prompt_and_answer(max_width) -> None:
    rng = np.random.default_rng(0)
    examples = [
        example(rng, 9, 4),
        example(rng, 3, 5, 1, 7),
        example(rng, 1, 2, 2),
        example(rng, 12, 6, 6, 8, 9, loss_from=0),
        example(rng, 5, 9, 3, 4, loss_from=2),
        example(rng, 25, 12),  # alone wider than 30: a row may be, if one answer needs it
    ]
    batch = pack(examples, max_width)
    assert predictions(batch) == expected(examples)
    assert batch.weight.sum() == (batch.target >= 0).sum() == sum(one.targets for one in examples)
    longest = max(one.length for one in examples) if max_width == 256 else 25 + 12
    assert longest <= batch.tokens.shape[1] < longest + batches.WIDTH_STEP


@pytest.mark.parametrize("max_width", [256, 30], ids=["whole", "divided"])
def test_a_weight_stays_with_its_answer(max_width) -> None:
    """However documents are divided and packed; an answer of weight 0 is a target, too."""
    rng = np.random.default_rng(3)
    shapes = (12, 6, 6, 8, 9), (3, 5, 1, 7), (20, 4), (2, 3)
    examples = [example(rng, *shape) for shape in shapes]
    weights = iter([0.5, 0.0, 1.5, 3.0, 0.25, 1.0, 0.125, 2.0, 0.75])
    examples = [replace(one, weights=tuple(next(weights) for _ in one.answers)) for one in examples]
    batch = pack(examples, max_width)
    assert batch.document.max() > 0 and batch.branch.max() > 1  # rows and prompts are shared
    learnt = batch.target >= 0
    found = Counter(zip(batch.target[learnt].tolist(), batch.weight[learnt].tolist(), strict=True))
    wanted = Counter(
        (int(token), weight)
        for one in examples
        for answer, weight in zip(one.answers, one.weights, strict=True)
        for token in answer
    )
    assert found == wanted
    assert not batch.weight[~learnt].any()


def test_answers_weigh_1_by_default_and_every_answer_has_a_weight() -> None:
    one = example(np.random.default_rng(0), 5, 2, 3)
    assert one.weights == (1.0, 1.0)
    with pytest.raises(ValueError, match="one weight"):
        replace(one, weights=(0.5,))


def test_a_long_prompt_is_not_repeated_for_a_few_answers() -> None:
    rng = np.random.default_rng(1)
    batch = pack([example(rng, 300, 100, 100), example(rng, 300, 200, 200)])
    assert batch.tokens.shape[1] == 512 and (batch.document[:, 0] == 0).sum() == 3


def test_short_documents_share_rows() -> None:
    rng = np.random.default_rng(1)
    examples = [example(rng, 50, 14), *(example(rng, 5, 3) for _ in range(23))]
    batch = pack(examples)
    assert batch.tokens.shape == (4, 64)  # 1 + ceil(23 / 8) rows
    assert predictions(batch) == expected(examples)


def test_documents_of_one_length_get_a_row_each() -> None:
    rng = np.random.default_rng(2)
    assert pack([example(rng, 20, 4) for _ in range(6)]).tokens.shape == (8, 32)  # rounded up


def test_draws_pass_through_the_pool_again_and_again() -> None:
    lengths = np.random.default_rng(3).integers(10, 100, 50)
    drawn = draw_batches(lengths.tolist(), 40, 8, host_rng(0, "batches"), host_rng(0, "order"))
    assert len(drawn) == 40 and all(len(batch) == 8 for batch in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=50)
    assert set(counts) == {6, 7}  # 320 visits of 50 examples: none is visited twice more than another
    again = draw_batches(lengths.tolist(), 40, 8, host_rng(0, "batches"), host_rng(0, "order"))
    assert all(np.array_equal(one, other) for one, other in zip(drawn, again, strict=True))
    other = draw_batches(lengths.tolist(), 40, 8, host_rng(1, "batches"), host_rng(1, "order"))
    assert not all(np.array_equal(one, two) for one, two in zip(drawn, other, strict=True))


def test_drawn_batches_are_of_like_length() -> None:
    lengths = np.random.default_rng(4).integers(10, 100, 640)
    drawn = draw_batches(lengths.tolist(), 20, 32, host_rng(0, "batches"), host_rng(0, "order"))
    padded = sum(lengths[batch].max() * len(batch) for batch in drawn)
    assert padded < 1.12 * lengths[np.concatenate(drawn)].sum()  # 1.75 without bucketing
    widest = [lengths[batch].max() for batch in drawn]
    assert widest != sorted(widest)  # short and long batches are mixed


@pytest.mark.parametrize(("lengths", "updates"), [([], 3), ([5, 5], 0)])
def test_nothing_to_draw(lengths, updates) -> None:
    assert draw_batches(lengths, updates, 4, host_rng(0), host_rng(0, "order")) == []


def test_a_pool_smaller_than_a_batch_repeats() -> None:
    drawn = draw_batches([4, 5, 6], 2, 4, host_rng(0), host_rng(0, "order"))
    assert sorted(np.bincount(np.concatenate(drawn))) == [2, 3, 3]


def test_one_order_of_long_and_short_for_all_trajectories() -> None:
    rng = np.random.default_rng(5)
    widest = []
    for trajectory in (0, 1):
        lengths = rng.integers(10, 100, 640)
        drawn = draw_batches(lengths.tolist(), 20, 32, host_rng(trajectory), host_rng(0, "order"))
        widest.append([lengths[batch].max() for batch in drawn])
    assert np.corrcoef(widest)[0, 1] > 0.9  # padded to the longer one, little is lost


def test_a_prefix_is_what_the_prompts_of_all_pools_begin_with() -> None:
    rng = np.random.default_rng(7)
    beginning = rng.integers(0, 300, 70).astype(np.int32)

    def behind(length: int, prompt: int) -> TrainingExample:
        one = example(rng, prompt, 4, 3)
        return replace(one, prompt=np.concatenate([beginning[:length], one.prompt]), weights=(0.5, 2.0))

    pools = [[behind(70, 9), behind(70, 5)], [], [behind(70, 7)]]
    prefix, shorter = without_prefix(pools)
    assert prefix == tuple(beginning.tolist()) and [len(pool) for pool in shorter] == [2, 0, 1]
    for one, rest in zip(pools[0] + pools[2], shorter[0] + shorter[2], strict=True):
        np.testing.assert_array_equal(one.prompt[70:], rest.prompt)
        assert rest.answers is one.answers and rest.weights == one.weights
    few = [behind(20, 9), behind(20, 5)]  # not worth it
    prefix, (same,) = without_prefix([few])
    assert prefix == () and [len(one.prompt) for one in same] == [29, 25]
    assert without_prefix([[]]) == ((), [[]])
    lone = behind(70, 9)  # updates see it again and again
    prefix, ((rest,), _) = without_prefix([[lone], []])
    assert prefix == tuple(lone.prompt[:-1].tolist()) and rest.prompt == lone.prompt[-1:]


def test_trajectories_are_padded_to_one_shape() -> None:
    rng = np.random.default_rng(6)
    groups = [[example(rng, 5, 4), example(rng, 9, 3)], [], [example(rng, 30, 40)]]
    together = collate(groups)
    assert together.tokens.shape[1] == together.target.shape[1] == 3
    assert (together.document[:, 1] == -1).all() and not together.weight[:, 1].any()
    for index in (0, 2):
        alone = pack(groups[index])
        shape = alone.tokens.shape
        np.testing.assert_array_equal(together.tokens[: shape[0], index, : shape[1]], alone.tokens)
        np.testing.assert_array_equal(together.document[: shape[0], index, : shape[1]], alone.document)
        assert (together.branch[:, index, shape[1] :] == -1).all()
        assert together.weight[:, index].sum() == alone.weight.sum()
