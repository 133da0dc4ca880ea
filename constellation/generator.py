"""Samples answers: one prefill a task, then many samples decoded side by side on that task's one prompt KV.

A decoding batch has `slots` x `width` rows; the rows of a slot decode samples of one task. A row whose sample
has ended takes the next sample of its slot, an idle slot takes the next task or, when none is left, half the
waiting samples of another slot: the batch stays full although answers differ in length. The device advances
all rows by CHUNK tokens between two looks of the host.

The noise of a draw is addressed by (key, task, sample, position) alone: which row, slot or batch computes it
does not matter. Nor does it matter to the logits while the padded shapes stay the same, so then not to the
tokens; between shapes logits differ by rounding, and a token only where its score leads by less than that.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from constellation.keys import word
from constellation.model.config import ModelConfig
from constellation.model.decoder import KV, Params, append, decode_step, logits, prefill
from constellation.model.linear import dense
from constellation.model.lora import Adapter, projection_shapes
from constellation.model.model import Model
from constellation.sampling import SamplingConfig, scores

if TYPE_CHECKING:
    from constellation.progress import Progress

CHUNK = 4  # a sample idles (CHUNK - 1) / 2 steps after its end; shorter chunks copy and dispatch more often
STREAMS = 4  # batches in flight: one computes where another waits for the host or leaves a core idle
WIDTH = 8  # most samples of a task side by side: few end evenly, many share each read of the prompt's KV
WAVES = 2  # samples that a row decodes in turn, at least: one long answer holds up few others
PREFILL = 8  # prompts in one prefill
SHORTEST = 64  # the least padded length of a prompt; longer ones are powers of two
DENSE_LIMIT = 2**30  # bytes of float32 weights up to which int4 and LoRA are merged into plain ones to decode


class Sample(NamedTuple):
    """One answer: ids [tokens] int32 without the stop token, and whether a stop token ended it."""

    ids: np.ndarray
    finished: bool


def sample(
    model: Model,
    adapter: Adapter | None,
    prompts: Sequence[Sequence[int]],
    task_ids: Sequence[str],
    key: jax.Array,
    config: SamplingConfig,
    first_sample: int = 0,
    rows: int = 256,
    progress: Progress | None = None,
) -> list[list[Sample]]:
    """Draws samples first_sample ... first_sample + n - 1 of every task.

    Args:
        prompts, task_ids: of each task, in the same order.
        key: folded to (seed, purpose, arm, replicate); see `keys.fold`.
        rows: samples decoded at a time, in all streams; their suffix KV is what memory has to hold.
        progress: counts the samples as they end.

    Returns:
        n samples for each task, in the order of the tasks.
    """
    params, adapter = _for_decoding(model.config, model.params, adapter)
    job = _Job(
        fixed=(model.config, config.without_sizes(), model.tokenizer.size, params, adapter),
        key=key,
        config=config,
        samples=first_sample + np.arange(config.n),
        prompts=prompts,
        lengths=np.array([len(prompt) for prompt in prompts], np.int32),
        words=np.array([word(task_id) for task_id in task_ids]),
        stop_ids=np.array(model.stop_ids),
        tokens=np.zeros((len(prompts), config.n, 1 + _capacity(config)), np.int32),
        progress=progress,
    )
    buckets: dict[int, list[int]] = {}
    for task, prompt in enumerate(prompts):
        buckets.setdefault(_padded(len(prompt)), []).append(task)
    parts = [
        _Batch(job, bucket[part::STREAMS], length, rows // STREAMS)
        for length, bucket in sorted(buckets.items())
        for part in range(STREAMS)
    ]
    # Computations that one thread starts run one after the other on a CPU, so every stream has its own.
    with ThreadPoolExecutor(STREAMS) as threads:
        _alternate([part.run(threads) for part in parts])
    draws = job.tokens[:, :, : config.max_new_tokens]
    return [[_answer(sample, job.stop_ids) for sample in samples] for samples in draws]


def _alternate(streams: Sequence[Iterator[None]]) -> None:
    """Exhausts all iterators, STREAMS of them in turn at a time."""
    waiting, running = deque(streams), deque[Iterator[None]]()
    while waiting or running:
        while waiting and len(running) < STREAMS:
            running.append(waiting.popleft())
        stream = running.popleft()
        for _ in stream:
            running.append(stream)
            break


def _answer(draws: np.ndarray, stop_ids: np.ndarray) -> Sample:
    """What a sample has drawn before its first stop token; what lies behind that has no meaning."""
    stops = np.isin(draws, stop_ids)
    return Sample(draws[: stops.argmax()].copy(), True) if stops.any() else Sample(draws.copy(), False)


class _Job(NamedTuple):
    """What all batches of one call share; T tasks."""

    fixed: tuple[ModelConfig, SamplingConfig, int, Params, Adapter | None]  # first arguments on the device
    key: jax.Array
    config: SamplingConfig
    samples: np.ndarray  # [n] addresses
    prompts: Sequence[Sequence[int]]
    lengths: np.ndarray  # [T] of the prompts
    words: np.ndarray  # [T] uint32, addresses of the tasks
    stop_ids: np.ndarray
    tokens: np.ndarray  # [T, n, 1 + capacity] int32, filled with what is drawn
    progress: Progress | None


class _Prompt(NamedTuple):
    """A prefilled task: row `row` of `kv`."""

    task: int
    kv: KV
    row: int


class _Batch:
    """Decodes n samples of each of some tasks of one bucket; holds what the host knows of slots and rows."""

    def __init__(self, job: _Job, tasks: Sequence[int], length: int, rows: int) -> None:
        self.job, self.tasks, self.length = job, np.array(tasks, int), length
        n = job.config.n
        self.width = max(min(WIDTH, _power_of_two(n) // WAVES, rows), 1)
        self.slots = max(min(_power_of_two(-(-len(tasks) * n // self.width)), rows // self.width), 1)
        # Of a slot: its task, and the samples still to begin.
        self.origin: list[_Prompt] = []
        self.waiting: list[list[int]] = [[] for _ in range(self.slots)]
        # Of a row: its sample (-1 when idle), how many tokens of it are drawn, and the last of these.
        self.sample = np.full((self.slots, self.width), -1)
        self.count = np.ones((self.slots, self.width), np.int32)
        self.last = np.zeros((self.slots, self.width), np.int32)

    def run(self, threads: Executor) -> Iterator[None]:
        """Decodes everything; hands over whenever the device has a chunk to compute."""
        config, *_, params, _ = self.job.fixed
        dtype = params["norm"].dtype
        self.prompt = _empty(config, (self.slots,), self.length, dtype)
        suffix = _empty(config, (self.slots, self.width), _capacity(self.job.config), dtype)
        self.origin = [_Prompt(0, self.prompt, 0)] * self.slots
        prefilled = self._prefill()
        while True:
            for slot in np.flatnonzero((self.sample < 0).all(axis=1)).tolist():
                if not self.waiting[slot]:
                    self._fill(slot, prefilled)
            self._begin_samples()
            if not (self.sample >= 0).any():
                return
            task = np.array([prompt.task for prompt in self.origin])
            chunk = threads.submit(self._extend, task, suffix)
            yield
            drawn, suffix = chunk.result()
            self._record(task, drawn)

    def _extend(self, task: np.ndarray, suffix: KV) -> tuple[np.ndarray, KV]:
        """Runs `_extend` to its end, for the tasks of the slots."""
        job = self.job
        lengths, words, samples = job.lengths[task], job.words[task], job.samples[self.sample]
        drawn, suffix = _extend(
            *job.fixed, self.prompt, lengths, suffix, job.key, words, samples, self.count, self.last
        )
        return np.asarray(drawn), suffix

    def _prefill(self) -> Iterator[_Prompt]:
        """The tasks one by one with their prompt's KV, a few prefilled at a time; sets their first tokens."""
        job = self.job
        for start in range(0, len(self.tasks), PREFILL):
            group = self.tasks[start : start + PREFILL]
            prompts = np.zeros((PREFILL, self.length), np.int32)
            lengths, words = np.ones(PREFILL, np.int32), np.zeros(PREFILL, np.uint32)
            lengths[: len(group)], words[: len(group)] = job.lengths[group], job.words[group]
            for row, task in enumerate(group.tolist()):
                prompts[row, : lengths[row]] = job.prompts[task]
            kv, first = _begin(*job.fixed, prompts, lengths, job.key, words, job.samples)
            job.tokens[group, :, 0] = first[: len(group)]
            yield from (_Prompt(task, kv, row) for row, task in enumerate(group.tolist()))

    def _fill(self, slot: int, prefilled: Iterator[_Prompt]) -> None:
        """Gives an idle slot the next task that has samples to extend, or else some that wait elsewhere."""
        for prompt in prefilled:
            first = self.job.tokens[prompt.task, :, 0]
            ended = np.isin(first, self.job.stop_ids) | (self.job.config.max_new_tokens == 1)
            self._report(ended)
            if not ended.all():
                self._occupy(slot, prompt, np.flatnonzero(~ended).tolist())
                return
        busiest = max(range(self.slots), key=lambda other: len(self.waiting[other]))
        if waiting := self.waiting[busiest]:
            half = len(waiting) // 2
            self.waiting[busiest] = waiting[:half]
            self._occupy(slot, self.origin[busiest], waiting[half:])

    def _occupy(self, slot: int, prompt: _Prompt, samples: list[int]) -> None:
        self.prompt = _place(self.prompt, prompt.kv, slot, prompt.row)
        self.origin[slot], self.waiting[slot] = prompt, samples

    def _begin_samples(self) -> None:
        """Gives idle rows the next samples of their slots."""
        for slot in np.flatnonzero((self.sample < 0).any(axis=1)).tolist():
            rows = np.flatnonzero(self.sample[slot] < 0)[: len(self.waiting[slot])]
            begun, self.waiting[slot] = self.waiting[slot][: len(rows)], self.waiting[slot][len(rows) :]
            self.sample[slot, rows], self.count[slot, rows] = begun, 1
            self.last[slot, rows] = self.job.tokens[self.origin[slot].task, begun, 0]

    def _record(self, task: np.ndarray, drawn: np.ndarray) -> None:
        """Stores a chunk [slots, width, CHUNK] of the slots' tasks, and frees the rows of ended samples."""
        slot, row = active = np.nonzero(self.sample >= 0)
        new, count = drawn[active], self.count[active]
        self.job.tokens[
            task[slot][:, None], self.sample[active][:, None], count[:, None] + np.arange(CHUNK)
        ] = new
        self.last[active] = new[:, -1]
        self.count[active] += CHUNK
        limit = self.job.config.max_new_tokens
        ended = np.isin(new, self.job.stop_ids).any(axis=1) | (count + CHUNK >= limit)
        self.sample[slot[ended], row[ended]] = -1
        self._report(ended)

    def _report(self, ended: np.ndarray) -> None:
        if self.job.progress is not None:
            self.job.progress.update(int(ended.sum()))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _begin(
    config: ModelConfig,
    sampling: SamplingConfig,
    vocabulary: int,
    params: Params,
    adapter: Adapter | None,
    prompts: jax.Array,
    lengths: jax.Array,
    key: jax.Array,
    words: jax.Array,
    samples: jax.Array,
) -> tuple[KV, jax.Array]:
    """Prompts [P, T] of lengths [P] -> their KV, and the first token [P, n] of the samples [n]."""
    positions = jnp.broadcast_to(jnp.arange(prompts.shape[1]), prompts.shape)
    causal = positions[:, :, None] >= positions[:, None]
    mask = causal & (positions < lengths[:, None])[:, None]  # [P, T, T]
    hidden, kv = prefill(config, params, adapter, prompts, positions, mask)
    last = jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0]  # [P, D]
    after = logits(config, params, last)[:, :vocabulary]
    over_samples = jax.vmap(draw, (None, None, None, 0, None, None))
    over_tasks = jax.vmap(over_samples, (0, None, 0, None, None, None))
    return kv, over_tasks(after, key, words, samples, jnp.int32(0), sampling)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnames="suffix")
def _extend(
    config: ModelConfig,
    sampling: SamplingConfig,
    vocabulary: int,
    params: Params,
    adapter: Adapter | None,
    prompt: KV,
    lengths: jax.Array,
    suffix: KV,
    key: jax.Array,
    words: jax.Array,
    samples: jax.Array,
    counts: jax.Array,
    tokens: jax.Array,
) -> tuple[jax.Array, KV]:
    """CHUNK more tokens for each of G slots x W rows.

    Args:
        prompt: KV [L, G, ...] of the slots, of which the first lengths [G] positions are read.
        suffix: KV [L, G, W, ...] of the rows, of which the first counts - 1 positions are read; overwritten.
        words: [G] of the tasks' ids.
        samples, counts, tokens: [G, W] the rows' samples, how many tokens they have, and the last of these.

    Returns:
        [G, W, CHUNK] tokens, and the suffix with the KV of `tokens` and of all but the last of them.
    """

    def step(
        token: jax.Array,
        index: jax.Array,
        recent: KV,
        prompt: KV,
        length: jax.Array,
        count: jax.Array,
        suffix: KV,
    ) -> tuple[jax.Array, KV]:
        caches = (prompt, length), (suffix, count - 1), (recent, index)
        return decode_step(config, params, adapter, token, length + count - 1 + index, caches)

    # The KV of this chunk are kept apart until its end, since there one index serves all rows.
    over_rows = jax.vmap(step, (0, None, 1, None, None, 0, 1), (0, 1))
    over_slots = jax.vmap(over_rows, (0, None, 1, 1, 0, 0, 1), (0, 1))
    draw_rows = jax.vmap(draw, (0, None, None, 0, 0, None))
    draw_slots = jax.vmap(draw_rows, (0, None, 0, 0, 0, None))

    def one(carry: tuple[jax.Array, KV], index: jax.Array) -> tuple[tuple[jax.Array, KV], jax.Array]:
        token, recent = carry
        hidden, new = over_slots(token, index, recent, prompt, lengths, counts, suffix)
        after = logits(config, params, hidden)[..., :vocabulary]
        token = draw_slots(after, key, words, samples, counts + index, sampling)
        return (token, append(recent, new, index)), token

    recent = _empty(config, tokens.shape, CHUNK, suffix.k.dtype)
    (_, recent), drawn = jax.lax.scan(one, (tokens, recent), jnp.arange(CHUNK))
    return jnp.moveaxis(drawn, 0, -1), _append_chunk(suffix, recent, counts - 1)


def draw(
    logits: jax.Array,
    key: jax.Array,
    word: jax.Array,
    sample: jax.Array,
    position: jax.Array,
    sampling: SamplingConfig,
) -> jax.Array:
    """The token [] that a sample of a task draws from logits [V] at a position of its answer."""
    for part in (word, sample, position):
        key = jax.random.fold_in(key, part)
    score = scores(logits, key, sampling)
    # The argmax, as two reductions that XLA:CPU vectorises; jnp.argmax alone takes longer than the noise.
    return jnp.min(jnp.where(score == score.max(), jnp.arange(score.size), score.size - 1))


@functools.partial(jax.jit, donate_argnums=0)
def _place(cache: KV, prompts: KV, slot: int, row: int) -> KV:
    return jax.tree.map(lambda to, of: to.at[:, slot].set(of[:, row]), cache, prompts)


def _append_chunk(suffix: KV, recent: KV, lengths: jax.Array) -> KV:
    """Writes a chunk after the first lengths [G, W] positions. XLA:CPU selects faster than it scatters."""
    position = jnp.arange(suffix.k.shape[-1])
    k, v = suffix
    for index in range(CHUNK):
        here = position == lengths[..., None] + index  # [G, W, S]
        k = jnp.where(here[:, :, None, None, :], recent.k[..., index, None], k)
        v = jnp.where(here[:, :, None, :, None], recent.v[..., None, index, :], v)
    return KV(k, v)


def _empty(config: ModelConfig, batch: tuple[int, ...], positions: int, dtype: jnp.dtype) -> KV:
    heads = (config.num_hidden_layers, *batch, config.num_key_value_heads)
    keys = jnp.zeros((*heads, config.head_dim, positions), dtype)
    return KV(keys, keys.mT)


@jax.jit
def _merged(params: Params, adapter: Adapter | None) -> Params:
    """Plain weights that compute the same: int4 dequantised, W + scale B A."""
    dtype = params["norm"].dtype
    layers = {name: dense(weight, dtype) for name, weight in params["layers"].items()}
    if adapter is not None:
        for name, lora in adapter.weights.items():
            layers[name] += adapter.scale * jnp.einsum("lor,lri->loi", lora["b"], lora["a"])
    return params | {"layers": layers}


def _for_decoding(
    config: ModelConfig, params: Params, adapter: Adapter | None
) -> tuple[Params, Adapter | None]:
    """Merged weights if the model is small and float32: bfloat16 would round an adapter's updates away."""
    shapes = projection_shapes(config).values()
    size = 4 * config.num_hidden_layers * sum(out * inner for out, inner in shapes)
    if params["norm"].dtype != jnp.float32 or size > DENSE_LIMIT:
        return params, adapter
    return _merged(params, adapter), None


def _capacity(config: SamplingConfig) -> int:
    """Positions of a suffix: whole chunks for all tokens but the last, which is not fed back."""
    return max(-(-(config.max_new_tokens - 1) // CHUNK), 1) * CHUNK


def _padded(length: int) -> int:
    """The bucket of a prompt length."""
    return max(SHORTEST, _power_of_two(length))


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()
