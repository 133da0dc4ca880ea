"""The LoRA update against peft and torch.optim, and its own invariances."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from constellation.model.lora import Adapter, init_adapter, stack, unstack
from constellation.model.quantize import quantize
from constellation.model.weights import load_params
from constellation.selftraining.batches import Batch, TrainingExample, collate, pack, without_prefix
from constellation.selftraining.update import make_optimizer, make_update
from tests.model.tiny import CONFIG, dequantize, params_and_adapter, reference, tiny_config
from third_party import training_reference
from third_party.comparison.table import relative_norm

ROOT = Path(__file__).parents[2]
RANK, ALPHA = 4, 12


def examples(seed: int, *shapes: tuple[int, tuple[int, ...]], loss_from: int = 0) -> list[TrainingExample]:
    """Random tokens; a shape is (prompt length, answer lengths)."""
    rng = np.random.default_rng(seed)

    def tokens(count: int) -> np.ndarray:
        return rng.integers(0, CONFIG.vocab_size, count).astype(np.int32)

    return [
        TrainingExample(tokens(prompt), tuple(map(tokens, answers)), (loss_from,) * len(answers))
        for prompt, answers in shapes
    ]


descend = make_update(CONFIG, optax.sgd(1.0))


def started(adapter: Adapter, optimizer: optax.GradientTransformation) -> tuple[Adapter, optax.OptState]:
    """Adapters and optimizer states [1, ...] of one trajectory."""
    adapters = stack([adapter])
    return adapters, jax.vmap(optimizer.init)(adapters.weights)


def alone(batch: Batch) -> Batch:
    """[B, ...] -> [B, 1, ...], the batch of one trajectory."""
    return jax.tree.map(lambda array: array[:, None], batch)


def loss_and_gradient(
    batch: Batch, params: Any = None, update: Any = descend
) -> tuple[float, dict[str, Any]]:
    """Through one step of plain gradient descent at rate 1."""
    base, adapter = params_and_adapter()
    before = jax.tree.map(np.asarray, adapter.weights)
    adapters, opt_states = started(adapter, optax.sgd(1.0))
    after, _, metrics = update(adapters, opt_states, params or base, alone(batch))
    gradient = jax.tree.map(lambda old, new: old - np.asarray(new[0]), before, after.weights)
    norm = np.sqrt(sum(np.square(leaf, dtype=float).sum() for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["grad_norm"], [norm], rtol=1e-4)
    return float(metrics["loss"][0]), gradient


def assert_same(one: tuple[float, Any], other: tuple[float, Any]) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-5)
    assert relative_norm(one[1], other[1]) < 1e-5


def test_twenty_steps_equal_peft_and_torch(tmp_path: Path) -> None:
    reference().save_pretrained(tmp_path)
    params = load_params(tmp_path, CONFIG, jnp.float32)
    adapter = init_adapter(CONFIG, jax.random.key(0), RANK, ALPHA)
    start, base = jax.tree.map(np.asarray, (adapter.weights, params))
    model = training_reference.load_peft(tmp_path, RANK, ALPHA)
    training_reference.write_adapter(model, start)
    rate, decay, clip = 1e-3, 0.1, 2.7

    theirs = training_reference.make_optimizer(model, rate, decay)
    optimizer = make_optimizer(rate, decay, clip)
    update, (adapters, opt_states) = make_update(CONFIG, optimizer), started(adapter, optimizer)
    clipped = 0
    for step in range(20):
        drawn = examples(step, (9, (6,)), (14, (2,)), (5, (8,)), (11, (4,)), loss_from=step % 2)
        batch = one_shape(pack(drawn))
        expected_loss = training_reference.update(model, theirs, [batch], clip)
        adapters, opt_states, metrics = update(adapters, opt_states, params, alone(batch))
        assert float(metrics["loss"][0]) == pytest.approx(expected_loss, rel=1e-5)
        if step == 0:  # B is zero, hence A's gradient too: both optimizers see exact zeros
            gradient = training_reference.read_adapter(model, gradient=True)
            assert not any(gradient[name]["a"].any() for name in gradient)
        clipped += float(metrics["grad_norm"][0]) > clip
    assert 0 < clipped < 20  # both cases occurred
    change = jax.tree.map(lambda new, old: np.asarray(new[0]) - old, adapters.weights, start)
    expected = jax.tree.map(np.subtract, training_reference.read_adapter(model), start)
    assert relative_norm(change, expected) < 1e-4
    assert jax.tree.all(jax.tree.map(np.array_equal, base, params))  # frozen


def peft_twin(directory: Path) -> tuple[Any, Any]:
    """Our parameters, and peft's model of the same weights with the adapter of `params_and_adapter`."""
    reference().save_pretrained(directory)
    _, adapter = params_and_adapter()
    model = training_reference.load_peft(directory, RANK, int(adapter.scale * RANK))
    training_reference.write_adapter(model, jax.tree.map(np.asarray, adapter.weights))
    return load_params(directory, CONFIG, jnp.float32), model


def test_gradients_equal_pefts(tmp_path: Path) -> None:
    params, model = peft_twin(tmp_path)
    batch = one_shape(pack(examples(0, (9, (6,)), (14, (2,)), (5, (8,)))))
    loss, gradient = loss_and_gradient(batch, params)
    expected = training_reference.loss_of(model, batch)
    expected.backward()
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert relative_norm(gradient, training_reference.read_adapter(model, gradient=True)) < 1e-4


def test_a_target_competes_with_the_choices_alone(tmp_path: Path) -> None:
    params, model = peft_twin(tmp_path)
    choices, drawn, losses = (9, 7), [], []
    for right, one in enumerate(examples(0, (9, (6,)), (14, (2,)))):
        prompt, (answer,) = one.prompt, one.answers
        answer[-1] = choices[right]
        drawn.append(TrainingExample(prompt, (answer,), (len(answer) - 1,)))
        ids = torch.tensor([[*prompt, *answer[:-1]]])
        scores = model(input_ids=ids).logits[0, -1, list(choices)]
        losses.append(torch.nn.functional.cross_entropy(scores, torch.tensor(right)))
    expected = sum(losses) / len(losses)
    expected.backward()
    update = make_update(CONFIG, optax.sgd(1.0), choices=choices)
    loss, gradient = loss_and_gradient(pack(drawn), params, update)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert relative_norm(gradient, training_reference.read_adapter(model, gradient=True)) < 1e-4


SHARED = (7, (5, 3, 8)), (12, (4,)), (6, (2, 9)), (3, (3,)), (4, (2,))


@pytest.mark.parametrize("loss_from", [0, 1])
def test_a_shared_prompt_equals_separate_sequences(loss_from: int) -> None:
    assert_same(*both_ways(loss_from))


@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text"])
def test_so_it_does_with_windows_shorter_than_the_texts(model_type: str) -> None:
    config = tiny_config(model_type)
    update = make_update(config, optax.sgd(1.0))
    assert_same(*both_ways(0, params=params_and_adapter(config)[0], update=update))


def both_ways(loss_from: int, **how: Any) -> list[tuple[float, dict[str, Any]]]:
    """Loss and gradient of packed rows, and of a row for every answer."""
    together = examples(0, *SHARED, loss_from=loss_from)
    packed = one_shape(pack(together))
    assert packed.document.max() > 0 and packed.branch.max() == 3  # rows and prompts are shared
    separate = one_shape(*(pack([example]) for example in training_reference.separate(together)))
    assert separate.document.max() == 0 and separate.branch.max() == 1
    return [loss_and_gradient(batch, **how) for batch in (packed, separate)]


@pytest.mark.parametrize(
    ("model_type", "micro_batch", "remat"),
    [("qwen3", 0, False), ("qwen3", 2, True), ("gemma2", 0, True), ("gemma3_text", 2, False)],
)
def test_a_prefix_is_the_same_once_a_batch_as_in_every_row(
    model_type: str, micro_batch: int, remat: bool
) -> None:
    config, optimizer = tiny_config(model_type), optax.sgd(1.0)
    params, beginning = params_and_adapter(config)[0], np.arange(70, dtype=np.int32)
    whole = [
        dataclasses.replace(one, prompt=np.concatenate([beginning, one.prompt]))
        for one in examples(0, *SHARED, loss_from=1)
    ]
    prefix, (behind,) = without_prefix([whole])
    assert prefix == tuple(beginning.tolist()) and pack(behind).tokens.shape[1] == 32
    update = make_update(config, optimizer, None, micro_batch, remat, (), prefix)
    assert_same(
        loss_and_gradient(pack(behind), params, update),
        loss_and_gradient(pack(whole), params, make_update(config, optimizer)),
    )


def test_torch_has_a_row_for_every_example() -> None:
    together = training_reference.separate(examples(0, *SHARED))
    batch = training_reference.one_a_row(together)
    assert len(batch.tokens) == len(together) and batch.document.max() == 0
    expected = one_shape(*(pack([example]) for example in together))
    assert_same(loss_and_gradient(one_shape(batch)), loss_and_gradient(expected))
    packed: Any = pack(examples(0, (9, (4,)), (2, (2,)), (2, (2,))))
    no_model: Any = None  # refused before it is called
    with pytest.raises(ValueError, match="a row of its own"):
        training_reference.loss_of(no_model, packed)


def one_shape(*batches: Batch) -> Batch:
    """All their rows that hold anything, padded to a shape that most tests share: it is compiled once."""
    wide = [pad(batch, 0, 32, 32) for batch in batches]
    rows = jax.tree.map(lambda *arrays: np.concatenate(arrays), *wide)
    rows = jax.tree.map(lambda array: array[rows.document[:, 0] >= 0], rows)
    return pad(rows, 12 - len(rows.tokens), 32, 32)


def pad(batch: Batch, rows: int, width: int, targets: int) -> Batch:
    """`rows` more rows, and columns up to `width` and `targets`, filled as `pack` fills them."""

    def one(name: str, array: np.ndarray) -> np.ndarray:
        columns = width if name in ("tokens", "positions", "document", "branch") else targets
        missing = ((0, rows), (0, columns - array.shape[1]))
        return np.pad(array, missing, constant_values=-1 if name in ("document", "branch", "target") else 0)

    return Batch(*(one(name, array) for name, array in batch._asdict().items()))


def test_padding_changes_nothing() -> None:
    batch = one_shape(pack(examples(0, *SHARED)))
    padded = pad(batch, 3, 53, 37)
    noise = np.random.default_rng(0).integers(0, CONFIG.vocab_size, padded.tokens.shape)
    padded = padded._replace(tokens=np.where(padded.branch < 0, noise, padded.tokens).astype(np.int32))
    assert_same(loss_and_gradient(padded), loss_and_gradient(batch))


CLIP = 1e-3
ADAMW = make_optimizer(1e-2, weight_decay=0.1, clip_norm=CLIP)
clipped = make_update(CONFIG, ADAMW)
WEIGHTS = (0.25, 3.0, 0.0), (0.5,), (1.0, 0.75), (2.0,), (0.125,)  # of the answers of SHARED


def weighted(drawn: list[TrainingExample], weights: Sequence[tuple[float, ...]]) -> list[TrainingExample]:
    return [dataclasses.replace(one, weights=own) for one, own in zip(drawn, weights, strict=True)]


def test_an_answers_loss_is_its_weight_times_its_cross_entropy(tmp_path: Path) -> None:
    """Against torch, an answer at a time; divided by the number of targets, whatever the weights."""
    params, model = peft_twin(tmp_path)
    drawn = weighted(examples(0, *SHARED, loss_from=1), WEIGHTS)
    total, targets = torch.zeros(()), 0
    for one in drawn:
        for answer, first, weight in zip(one.answers, one.loss_from, one.weights, strict=True):
            ids = torch.tensor([[*one.prompt, *answer]])
            scores = model(input_ids=ids[:, :-1]).logits[0, len(one.prompt) + first - 1 :]
            learnt = ids[0, len(one.prompt) + first :].long()
            total += weight * torch.nn.functional.cross_entropy(scores, learnt, reduction="sum")
            targets += len(learnt)
    expected = total / targets
    expected.backward()
    packed = pack(drawn, max_width=20)  # the answers of the first example lie in several documents
    loss, gradient = loss_and_gradient(one_shape(packed), params)
    assert loss == pytest.approx(expected.item(), rel=1e-5)
    assert relative_norm(gradient, training_reference.read_adapter(model, gradient=True)) < 1e-4
    separate = training_reference.one_a_row(training_reference.separate(drawn))
    assert training_reference.loss_of(model, separate).item() == pytest.approx(loss, rel=1e-5)


def test_half_the_weights_have_half_the_gradient_before_clipping() -> None:
    params, adapter = params_and_adapter()
    drawn = weighted(examples(0, *SHARED), WEIGHTS)
    halved = weighted(drawn, [tuple(0.5 * weight for weight in own) for own in WEIGHTS])
    loss, gradient = loss_and_gradient(one_shape(pack(drawn)))
    assert_same(
        loss_and_gradient(one_shape(pack(halved))), (loss / 2, jax.tree.map(lambda x: x / 2, gradient))
    )
    norms = []
    for pool in (drawn, halved):
        _, _, metrics = clipped(*started(adapter, ADAMW), params, alone(one_shape(pack(pool))))
        norms.append(float(metrics["grad_norm"][0]))
    assert norms[0] == pytest.approx(2 * norms[1], rel=1e-5) and norms[1] > CLIP  # which hides it


def test_answers_of_no_weight_leave_the_adapter_as_it_is() -> None:
    params, adapter = params_and_adapter()
    nothing = weighted(examples(0, *SHARED), [tuple(0.0 for _ in own) for own in WEIGHTS])
    adapters, opt_states = started(adapter, ADAMW)  # whose weight decay would move it
    before = jax.tree.map(np.asarray, adapters.weights)
    after, _, metrics = clipped(adapters, opt_states, params, alone(one_shape(pack(nothing))))
    jax.tree.map(np.testing.assert_array_equal, before, after.weights)
    assert metrics["loss"].tolist() == metrics["grad_norm"].tolist() == [0.0]


def test_an_answer_of_no_weight_teaches_nothing_but_counts() -> None:
    """Left out, the others' gradient is the same but for the number of targets."""
    both = examples(0, (7, (5, 3)))
    muted = weighted(both, [(1.0, 0.0)])
    loss, gradient = loss_and_gradient(one_shape(pack([both[0].part(slice(0, 1))])))
    scaled = jax.tree.map(lambda x: x * 5 / 8, gradient)
    assert_same(loss_and_gradient(one_shape(pack(muted))), (loss * 5 / 8, scaled))


def test_trajectories_together_learn_what_each_learns_alone() -> None:
    params, adapter = params_and_adapter()
    adapters = [jax.tree.map(lambda x, c=c: c * x, adapter) for c in (1.0, 0.5, 2.0)]
    groups = [examples(0, *SHARED), [], examples(1, (6, (4,)), (7, (2, 3)))]
    optimizer = make_optimizer(1e-2, 0.1, 0.5)
    together = stack(adapters)
    opt_states = jax.vmap(optimizer.init)(together.weights)
    update = make_update(CONFIG, optimizer)
    for _ in range(2):
        together, opt_states, metrics = update(together, opt_states, params, collate(groups))
    assert metrics["loss"].shape == (3,)
    after = unstack(together)
    assert all(map(np.array_equal, *map(jax.tree.leaves, (after[1], adapters[1]))))  # nothing to learn from
    for index in (0, 2):
        (one, states), batch = started(adapters[index], optimizer), alone(one_shape(pack(groups[index])))
        for _ in range(2):
            one, states, own = update(one, states, params, batch)
        assert relative_norm(after[index].weights, unstack(one)[0].weights) < 1e-5
        np.testing.assert_allclose(metrics["loss"][index], own["loss"][0], rtol=1e-5)
        np.testing.assert_allclose(metrics["grad_norm"][index], own["grad_norm"][0], rtol=1e-4)


def test_int4_base_trains_as_its_dense_equal() -> None:
    params = quantize(params_and_adapter()[0], "int4:16")
    batch = one_shape(pack(examples(0, *SHARED)))
    assert_same(loss_and_gradient(batch, params), loss_and_gradient(batch, dequantize(params)))


@pytest.mark.parametrize("micro_batch", [0, 1, 5])
def test_recomputation_and_accumulation_change_nothing(micro_batch: int) -> None:
    batch = one_shape(pack(examples(0, *SHARED)))  # 5 does not divide its rows
    update = make_update(CONFIG, optax.sgd(1.0), None, micro_batch, remat=True)
    assert_same(loss_and_gradient(batch, update=update), loss_and_gradient(batch))


def test_recomputation_and_micro_batches_save_memory() -> None:
    params, adapter = params_and_adapter()
    batch = one_shape(pack(examples(0, *SHARED)))
    wide = jax.tree.map(lambda x: np.tile(x, (1, 8) if x.shape[1] == 32 else (1, 1)), batch)

    def temporary(micro_batch: int, remat: bool) -> int:
        update: Any = make_update(CONFIG, optax.sgd(1.0), None, micro_batch, remat)
        compiled = update.lower(*started(adapter, optax.sgd(1.0)), params, alone(wide)).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    everything = temporary(0, False)
    assert temporary(0, True) < 0.7 * everything
    assert temporary(2, False) < 0.4 * everything


DEVICES = """
import jax
import numpy as np
import optax
from constellation.model.mesh import make_mesh
from constellation.selftraining.update import make_update
from tests.selftraining.test_update import CONFIG, SHARED, examples, loss_and_gradient, one_shape, pack
update = make_update(CONFIG, optax.sgd(1.0), make_mesh(5))  # does not divide the rows
loss, gradient = loss_and_gradient(one_shape(pack(examples(0, *SHARED))), update=update)
np.savez({path!r}, np.float64(loss), *jax.tree.leaves(gradient))
"""


def test_several_devices_equal_one(tmp_path: Path, virtual_devices: Callable[[int], dict[str, str]]) -> None:
    path = str(tmp_path / "gradient.npz")
    subprocess.run(
        [sys.executable, "-c", DEVICES.format(path=path)],
        cwd=ROOT,
        env=virtual_devices(5),
        check=True,
    )
    with np.load(path) as saved:
        loss, *leaves = (saved[name] for name in saved.files)
    ours = loss_and_gradient(one_shape(pack(examples(0, *SHARED))))
    assert_same((float(loss), leaves), (ours[0], jax.tree.leaves(ours[1])))
