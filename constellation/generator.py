"""Samples answers: one prefill a task, then many samples decoded side by side on that task's one prompt KV.

What all prompts begin with, as the description of the language, is prefilled once for all tasks.
A decoding batch has `slots` x `width` rows; the rows of a slot decode samples of one task. A row whose sample
has ended takes the next sample of its slot, an idle slot takes the next task or, when none is left, half the
waiting samples of another slot: the batch stays full although answers differ in length. The device advances
all rows by CHUNK tokens between two looks of the host. Every slice of the mesh samples tasks of its own.
Several trajectories, each with an adapter of its own on the one base, are one program vmapped over them.

The noise of a draw is addressed by (key, task, sample, position) alone: which row, slot or batch computes it
does not matter. Nor does it matter to the logits while the padded shapes stay the same, so then not to the
tokens; between shapes logits differ by rounding, and a token only where its score leads by less than that.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from constellation.model import decoding
from constellation.model.decoder import KV
from constellation.model.decoding import CHUNK, ENGINE, Engine, Fixed
from constellation.model.mesh import DATA, MODEL, local_slices, on_slice, replicate
from constellation.model.model import Generator
from constellation.model.padding import join_few, multiple, power_of_two
from constellation.model.prefix import shared_length
from constellation.model.sampling import SamplingConfig
from constellation.runtime.keys import Address, word

if TYPE_CHECKING:
    from constellation.runtime.progress import Progress

STREAMS = 4  # batches in flight on a slice: one computes where another waits for the host or idles a core
WIDTH = 8  # most samples of a task side by side: few end evenly, many share each read of the prompt's KV
WAVES = 2  # samples that a row decodes in turn, where there are as many: one long answer holds up few others
PREFILL = 8  # prompts in one prefill, at most ...
PREFILL_PAIRS = 2**23  # ... and pairs of a query and a key: of long prompts fewer are prefilled at a time
SLOTS = 4  # of each trajectory of a small model, at least: idle ones cost it less than another compilation
ROWS = 256  # samples decoded at a time on a slice, where memory allows ...
MOST_TOGETHER = 4  # ... by one trajectory; on a CPU more trajectories than these gain nothing by more rows
SHORTEST = 64  # the least padded length of a prompt; longer ones are powers of two


def rows_of(trajectories: int, platform: str) -> int:
    """Samples to decode at a time on a slice, in all trajectories, where memory allows."""
    return ROWS * (min(trajectories, MOST_TOGETHER) if platform == "cpu" else trajectories)


class Sample(NamedTuple):
    """One answer: ids [tokens] int32 without the stop token, and whether a stop token ended it."""

    ids: np.ndarray
    finished: bool


def sample(
    generator: Generator,
    prompts: Sequence[Sequence[Sequence[int]]],
    task_ids: Sequence[Sequence[str]],
    address: Address,
    sampling: SamplingConfig,
    first_sample: int = 0,
    rows: int = ROWS,
    progress: Progress | None = None,
    engine: Engine = ENGINE,
) -> list[list[list[Sample]]]:
    """n samples, from `first_sample` on, of each task of each of R trajectories, in the tasks' order.

    `prompts` and `task_ids` are each trajectory's. `rows` samples are decoded at a time by a slice, in all
    streams and trajectories; their KV is what memory has to hold. `progress` counts them as they end.
    """
    model, trajectories = generator.model, generator.trajectories
    whole = [prompt for group in prompts for prompt in group]
    shared = shared_length(whole, engine.shared_tokens)
    job = _Job(
        config=sampling,
        trajectories=trajectories,
        samples=first_sample + np.arange(sampling.n),
        prompts=[prompt[shared:] for prompt in whole],
        lengths=np.array([len(prompt) - shared for prompt in whole], np.int32),
        words=np.array([word(task_id) for group in task_ids for task_id in group]),
        trajectory=np.repeat(np.arange(trajectories), [len(group) for group in prompts]),
        stop_ids=np.array(model.stop_ids),
        tokens=np.zeros((len(whole), sampling.n, 1 + _capacity(sampling)), np.int32),
        progress=progress,
        engine=engine,
    )
    buckets = _buckets(job.prompts, rows // STREAMS // sampling.n)
    merged = engine.merges(model)
    # A large model's time goes into reading its weights, and into computing rows.
    streams = STREAMS if merged else 1
    vocabulary, draw_config = model.tokenizer.size, sampling.compiled()
    adapters, keys = replicate(generator.adapters, model.mesh), address.keys(trajectories)
    parts: dict[int, list[_Batch]] = {}
    with contextlib.ExitStack() as stack:
        for index, devices in local_slices(model.mesh):
            params, own = on_slice((model.params, adapters), model.mesh, devices)
            beginning = whole[0][:shared] if shared else ()
            static = decoding.Static(model.config, draw_config, vocabulary, devices, engine.draw)
            fixed = decoding.fix(static, params, own, keys, sampling.temperature, beginning, merged)
            # Computations that one thread starts run one after the other on a CPU, so every stream has its
            # own; but those of several devices that communicate have to start in one order.
            threads = ThreadPoolExecutor(1 if devices.shape[MODEL] > 1 else streams)
            stack.enter_context(threads)
            for length, bucket in buckets.items():
                tasks = bucket[index :: model.mesh.shape[DATA]]
                parts.setdefault(index, []).extend(
                    _Batch(job, fixed, threads, tasks[part::streams], length, rows // streams, merged)
                    for part in range(streams)
                )
        in_turn = [part for group in itertools.zip_longest(*parts.values()) for part in group if part]
        _alternate([part.run() for part in in_turn], streams * len(parts))
    tokens = job.tokens
    if jax.process_count() > 1:
        tokens = np.asarray(multihost_utils.process_allgather(tokens)).sum(axis=0)  # zero where not its own
    draws = tokens[:, :, : sampling.max_new_tokens]
    answers = [[_answer(sample, job.stop_ids) for sample in samples] for samples in draws]
    ends = np.cumsum([0, *map(len, prompts)])
    return [answers[start:end] for start, end in itertools.pairwise(ends)]


def _buckets(prompts: Sequence[Sequence[int]], fewest: int) -> dict[int, list[int]]:
    """Padded length -> the prompts of this length; those that are fewer than `fewest` go with longer ones."""
    by_length: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        by_length.setdefault(padded_prompt(len(prompt)), []).append(number)
    joined = join_few(by_length, lambda _, numbers: len(numbers) >= fewest)
    return {length: sorted(numbers) for length, numbers in joined.items()}


def _alternate(streams: Sequence[Iterator[None]], most: int) -> None:
    """Exhausts all iterators; at any time `most` of them take turns."""
    waiting, running = deque(streams), deque[Iterator[None]]()
    while waiting or running:
        while waiting and len(running) < most:
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
    """What all batches of one call share; T tasks of all R trajectories."""

    config: SamplingConfig
    trajectories: int  # R
    samples: np.ndarray  # [n] addresses
    prompts: Sequence[Sequence[int]]  # behind what they share
    lengths: np.ndarray  # [T] of these
    words: np.ndarray  # [T] uint32, addresses of the tasks
    trajectory: np.ndarray  # [T] whose task it is
    stop_ids: np.ndarray
    tokens: np.ndarray  # [T, n, 1 + capacity] int32, filled with what is drawn
    progress: Progress | None
    engine: Engine


class _Prompt(NamedTuple):
    """A prefilled task: row `row` of `kv`."""

    task: int
    kv: list[KV]
    row: int


class _Batch:
    """Decodes n samples of each of some tasks of one bucket; holds what the host knows of slots and rows."""

    def __init__(
        self,
        job: _Job,
        fixed: Fixed,
        threads: Executor,
        tasks: Sequence[int],
        length: int,
        rows: int,
        merged: bool,
    ) -> None:
        self.job, self.fixed, self.threads = job, fixed, threads
        numbers = np.array(tasks, int)
        self.tasks = [numbers[job.trajectory[numbers] == r] for r in range(job.trajectories)]
        self.length = length
        n, rows = job.config.n, rows // job.trajectories
        self.width = width_of(n, rows)
        slots = power_of_two(-(-max(map(len, self.tasks)) * n // self.width))  # as many as can be busy
        if merged:
            slots = max(slots // WAVES, SLOTS)
        self.share = max(min(slots, rows // self.width), 1)  # slots of each trajectory
        self.slots = self.share * job.trajectories
        # Of a slot: its task, and the samples still to begin.
        self.origin: list[_Prompt] = []
        self.waiting: list[list[int]] = [[] for _ in range(self.slots)]
        # Of a row: its sample (-1 when idle), how many tokens of it are drawn, and the last of these.
        self.sample = np.full((self.slots, self.width), -1)
        self.count = np.ones((self.slots, self.width), np.int32)
        self.last = np.zeros((self.slots, self.width), np.int32)

    def run(self) -> Iterator[None]:
        """Decodes everything; hands over whenever the device has a chunk to compute."""
        grid = self.job.trajectories, self.share
        self.prompt = decoding.empty(self.fixed, grid, self.length)
        suffix = decoding.empty(self.fixed, (*grid, self.width), _capacity(self.job.config))
        self.origin = [_Prompt(0, self.prompt, 0)] * self.slots
        prefilled = [self._prefill(trajectory) for trajectory in range(self.job.trajectories)]
        while True:
            for slot in np.flatnonzero((self.sample < 0).all(axis=1)).tolist():
                if not self.waiting[slot]:
                    self._fill(slot, prefilled[slot // self.share])
            self._begin_samples()
            if not (self.sample >= 0).any():
                return
            task = np.array([prompt.task for prompt in self.origin])
            chunk = self.threads.submit(self._extend, task, suffix)
            yield
            drawn, suffix = chunk.result()
            self._record(task, drawn)

    def _extend(self, task: np.ndarray, suffix: list[KV]) -> tuple[np.ndarray, list[KV]]:
        """Runs `extend` to its end, for the tasks of the slots."""
        job = self.job
        lengths, words, samples = job.lengths[task], job.words[task], job.samples[self.sample]
        # Copies: a slice's second device may still read these when the first has returned its tokens.
        slots = lengths, words, samples, self.count.copy(), self.last.copy()
        rows = decoding.Rows(*(x.reshape(job.trajectories, self.share, *x.shape[1:]) for x in slots))
        drawn, suffix = job.engine.extend(*self.fixed, self.prompt, suffix, rows)
        return np.asarray(drawn).reshape(*self.sample.shape, CHUNK), suffix

    def _prefill(self, trajectory: int) -> Iterator[_Prompt]:
        """A trajectory's tasks with their prompts' KV, a few at a time; sets their first tokens."""
        job, size = self.job, min(prefill_size(self.length), power_of_two(len(self.job.prompts)))
        tasks = self.tasks[trajectory]
        for start in range(0, len(tasks), size):
            group = tasks[start : start + size]
            prompts = np.zeros((size, self.length), np.int32)
            lengths, words = np.ones(size, np.int32), np.zeros(size, np.uint32)
            lengths[: len(group)], words[: len(group)] = job.lengths[group], job.words[group]
            for row, task in enumerate(group.tolist()):
                prompts[row, : lengths[row]] = job.prompts[task]
            padded = decoding.Prompts(prompts, lengths, words)
            kv, first = job.engine.begin(*self.fixed, trajectory, padded, job.samples)
            job.tokens[group, :, 0] = first[: len(group)]
            yield from (_Prompt(task, kv, row) for row, task in enumerate(group.tolist()))

    def _fill(self, slot: int, prefilled: Iterator[_Prompt]) -> None:
        """Gives an idle slot its trajectory's next task that has samples to extend, or some that wait."""
        for prompt in prefilled:
            first = self.job.tokens[prompt.task, :, 0]
            ended = np.isin(first, self.job.stop_ids) | (self.job.config.max_new_tokens == 1)
            self._report(ended)
            if not ended.all():
                self._occupy(slot, prompt, np.flatnonzero(~ended).tolist())
                return
        first_slot = slot // self.share * self.share
        siblings = range(first_slot, first_slot + self.share)
        busiest = max(siblings, key=lambda other: len(self.waiting[other]))
        if waiting := self.waiting[busiest]:
            half = len(waiting) // 2
            self.waiting[busiest] = waiting[:half]
            self._occupy(slot, self.origin[busiest], waiting[half:])

    def _occupy(self, slot: int, prompt: _Prompt, samples: list[int]) -> None:
        self.prompt = decoding.place(self.prompt, prompt.kv, *divmod(slot, self.share), prompt.row)
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


def _capacity(config: SamplingConfig) -> int:
    """Positions of a suffix: whole chunks for all tokens but the last, which is not fed back."""
    return max(multiple(config.max_new_tokens - 1, CHUNK), CHUNK)


def width_of(n: int, rows: int) -> int:
    """How many of n samples of a task are decoded side by side, of `rows` in all."""
    return max(min(WIDTH, power_of_two(n) // WAVES, rows), 1)


def padded_prompt(length: int) -> int:
    """The bucket of a prompt length."""
    return max(SHORTEST, power_of_two(length))


def prefill_size(length: int) -> int:
    """How many prompts of a padded length are prefilled at a time."""
    return max(min(PREFILL, PREFILL_PAIRS // length**2), 1)
