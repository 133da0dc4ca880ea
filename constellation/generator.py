"""Samples answers: one prefill a task, then many samples decoded side by side on that task's one prompt KV.

What all prompts begin with, as the description of the language, is prefilled once for all tasks. A decoding
batch has `slots` x `width` rows; the rows of a slot decode samples of one task, and samples that have drawn
the same tokens so far share a row (`constellation.branches`). An idle row takes over samples that wait in
its slot, an idle slot takes the next task or, when none is left, samples that wait in another slot: the
batch stays full although answers differ in length. The device advances all rows by CHUNK tokens between two
looks of the host. Every slice of the mesh samples tasks of its own. Several trajectories, each with an
adapter of its own on the one base, are one program vmapped over them.

The noise of a draw is addressed by (key, task, sample, position) alone: which row, slot or batch computes it
does not matter. Nor does it matter to the logits while the padded shapes stay the same, so then not to the
tokens; between shapes logits differ by rounding, and a token only where its score leads by less than that.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils

from constellation.branches import Branches, Drawing, Integers
from constellation.model import decoding
from constellation.model.decoder import KV
from constellation.model.decoding import CHUNK, ENGINE, FOLLOWERS, Engine, Fixed
from constellation.model.mesh import DATA, MODEL, local_slices, on_slice, replicate
from constellation.model.model import Generator
from constellation.model.padding import join_few, multiple, power_of_two
from constellation.model.prefix import shared_length
from constellation.model.sampling import SamplingConfig
from constellation.runtime.keys import Address, word

if TYPE_CHECKING:
    from constellation.runtime.progress import Progress

STREAMS = 4  # batches in flight on a slice: one computes where another waits for the host or idles a core
WIDTH = 8  # most rows of a task side by side: few end evenly, many share each read of the prompt's KV
WAVES = 2  # samples that a row decodes in turn, where there are as many: one long answer holds up few others
IN_TURN = 8  # likewise of a small model: idle rows cost it time, and in one row samples share beginnings
PREFILL = 8  # prompts in one prefill, at most ...
PREFILL_PAIRS = 2**23  # ... and pairs of a query and a key: of long prompts fewer are prefilled at a time
SLOTS = 4  # of each trajectory of a small model, at least: idle ones cost it less than another compilation
ROWS = 256  # samples decoded at a time on a slice, where memory allows ...
MOST_TOGETHER = 4  # ... by one trajectory; on a CPU more trajectories than these gain nothing by more rows
SHORTEST = 64  # the least padded length of a prompt; longer ones are multiples of a quarter of a power of two


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
    merged = engine.merges(model.config, model.params["norm"].dtype)
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
        self.job, self.fixed, self.threads, self.merged = job, fixed, threads, merged
        numbers = np.array(tasks, int)
        self.tasks = [numbers[job.trajectory[numbers] == r] for r in range(job.trajectories)]
        self.length = length
        n, rows = job.config.n, rows // job.trajectories
        self.width = width_of(n, rows, merged)
        samples = max(map(len, self.tasks)) * n
        if merged:
            samples = max(samples // max(min(n, IN_TURN), WAVES), SLOTS * self.width)
        slots = power_of_two(-(-samples // self.width))  # as many as can be busy
        self.share = max(min(slots, rows // self.width), 1)  # slots of each trajectory
        self.slots = self.share * job.trajectories
        self.origin: list[_Prompt] = []  # of a slot: its task
        self.branches = Branches(self.slots * self.width, job.config.max_new_tokens, job.stop_ids)

    def run(self) -> Iterator[None]:
        """Decodes everything; hands over whenever the device has a chunk to compute."""
        grid = self.job.trajectories, self.share
        self.prompt = decoding.empty(self.fixed, grid, self.length)
        suffix = decoding.empty(self.fixed, (*grid, self.width), _capacity(self.job.config))
        self.origin = [_Prompt(0, self.prompt, 0)] * self.slots
        prefilled = [self._prefill(trajectory) for trajectory in range(self.job.trajectories)]
        while True:
            self.branches.resume()
            for slot in range(self.slots):
                self._fill(slot, prefilled[slot // self.share])
            drawing = self.branches.drawing()
            if not drawing.leaders:
                return
            chunk = self.threads.submit(self._extend, drawing, suffix)
            yield
            drawn, suffix = chunk.result()
            self._record(drawing, drawn)

    def _rows(self, slot: int, slots: int = 1) -> range:
        """The rows of a slot and of those behind it, `slots` in all."""
        return range(slot * self.width, (slot + slots) * self.width)

    def _task_of(self, rows: Integers) -> Integers:
        """The tasks of rows [...]."""
        return np.array([prompt.task for prompt in self.origin])[rows // self.width]

    def _fill(self, slot: int, prefilled: Iterator[_Prompt]) -> None:
        """Gives an idle slot its trajectory's next task, or a fork of another slot's; and idle rows forks."""
        rows = self._rows(slot)
        if self.branches.idle(rows) and not self._begin_next(slot, prefilled):
            first = slot // self.share * self.share
            other = self.branches.take_over(rows[0], self._rows(first, self.share))
            if other is not None:
                self._occupy(slot, self.origin[other // self.width])
        for row in rows:
            if not self.branches.together[row]:
                self.branches.take_over(row, rows)

    def _begin_next(self, slot: int, prefilled: Iterator[_Prompt]) -> bool:
        """Gives a slot the next task that has samples to extend, if there is one."""
        for prompt in prefilled:
            first, row = self.job.tokens[prompt.task, :, 0].tolist(), self._rows(slot)[0]
            self._report(self.branches.begin(row, first))
            if self.branches.forks[row]:
                self._occupy(slot, prompt)
                return True
        return False

    def _occupy(self, slot: int, prompt: _Prompt) -> None:
        self.prompt = decoding.place(self.prompt, prompt.kv, *divmod(slot, self.share), prompt.row)
        self.origin[slot] = prompt

    def _extend(self, drawing: Drawing, suffix: list[KV]) -> tuple[Integers, list[KV]]:
        """Runs `extend` to its end: the tokens [leaders + followers, CHUNK] that are drawn, and the KV."""
        job, branches = self.job, self.branches
        every = np.arange(len(branches.together))
        if branches.copies:
            pairs = np.zeros((2, len(every)), np.int32)
            pairs[:, : len(branches.copies)] = np.transpose(branches.copies)
            suffix = decoding.copy_rows(suffix, *pairs, np.int32(len(branches.copies)))
            branches.copies.clear()
        leaders, sample = drawing.rows[: drawing.leaders], np.zeros(len(every), int)
        sample[leaders] = drawing.samples[: drawing.leaders]
        grid, task = (job.trajectories, self.share), self._task_of(every[:: self.width])
        # Copies: a slice's second device may still read these when the first has returned its tokens.
        each = job.samples[sample], branches.length.copy(), branches.last.copy()
        slots = job.lengths[task].reshape(grid), job.words[task].reshape(grid)
        rows = decoding.Rows(*slots, *(x.reshape(*grid, self.width) for x in each))
        tokens, logits, suffix = job.engine.extend(*self.fixed, self.prompt, suffix, rows)
        drawn = np.asarray(tokens).reshape(-1, CHUNK)[leaders]
        if drawing.followers:
            drawn = np.concatenate([drawn, self._follow(drawing, logits)])
        return drawn, suffix

    def _follow(self, drawing: Drawing, logits: jax.Array) -> Integers:
        """The tokens [followers, CHUNK] that followers draw from the logits of their rows."""
        job, (static, _, own) = self.job, self.fixed
        rows, samples = (x[drawing.leaders :] for x in drawing[:2])
        each = rows, job.words[self._task_of(rows)], job.samples[samples], self.branches.length[rows]
        room = multiple(self.slots * job.config.n, FOLLOWERS)  # for all that there can be: one shape
        followers = decoding.Followers(*(np.resize(x, room) for x in each))
        blocks = np.int32(-(-len(rows) // FOLLOWERS))
        return np.asarray(decoding.follow(static, own, logits, followers, blocks))[: len(rows)]

    def _record(self, drawing: Drawing, drawn: Integers) -> None:
        """Stores what was drawn; of followers more than counts, which later draws overwrite."""
        tasks, positions = self._task_of(drawing.rows), self.branches.length[drawing.rows]
        at = tasks[:, None], drawing.samples[:, None], positions[:, None] + np.arange(CHUNK)
        self.job.tokens[at] = drawn
        self._report(self.branches.record(drawing, drawn))

    def _prefill(self, trajectory: int) -> Iterator[_Prompt]:
        """A trajectory's tasks with their prompts' KV, a few at a time; sets their first tokens.

        Of a small model the next few are prefilled while these are decoded.
        """
        size = min(prefill_size(self.length), power_of_two(len(self.job.prompts)))
        tasks = self.tasks[trajectory]
        groups = [tasks[start : start + size] for start in range(0, len(tasks), size)]
        begun = (self._begin(trajectory, group, size) for group in groups)
        ahead = deque(itertools.islice(begun, 1 if self.merged else 0))

        def prefilled() -> Iterator[_Prompt]:
            for group in groups:
                ahead.extend(itertools.islice(begun, 1))
                kv, first = ahead.popleft().result()
                self.job.tokens[group, :, 0] = first[: len(group)]
                yield from (_Prompt(task, kv, row) for row, task in enumerate(group.tolist()))

        return prefilled()

    def _begin(self, trajectory: int, group: Integers, size: int) -> Future[tuple[list[KV], Integers]]:
        """Starts to prefill some tasks of a trajectory: their KV and first tokens [size, n]."""
        job = self.job
        prompts = np.zeros((size, self.length), np.int32)
        lengths, words = np.ones(size, np.int32), np.zeros(size, np.uint32)
        lengths[: len(group)], words[: len(group)] = job.lengths[group], job.words[group]
        for row, task in enumerate(group.tolist()):
            prompts[row, : lengths[row]] = job.prompts[task]

        def run() -> tuple[list[KV], Integers]:
            padded = decoding.Prompts(prompts, lengths, words)
            kv, first = job.engine.begin(*self.fixed, trajectory, padded, job.samples)
            return kv, np.asarray(first)

        return self.threads.submit(run)

    def _report(self, ended: int) -> None:
        if self.job.progress is not None:
            self.job.progress.update(ended)


def _capacity(config: SamplingConfig) -> int:
    """Positions of a suffix: of all tokens but the last, which is not fed back, and the rest of a chunk."""
    return multiple(config.max_new_tokens - 1 + CHUNK - 1, CHUNK)


def width_of(n: int, rows: int, merged: bool) -> int:
    """How many rows, of `rows` in all, decode the n samples of a task; `merged` as for `decoding.fix`."""
    return max(min(WIDTH, power_of_two(n) // (IN_TURN if merged else WAVES), rows), 1)


def padded_prompt(length: int) -> int:
    """The bucket of a prompt length."""
    return multiple(length, max(SHORTEST, power_of_two(length) // 4))


def prefill_size(length: int) -> int:
    """How many prompts of a padded length are prefilled at a time."""
    return max(min(PREFILL, PREFILL_PAIRS // length**2), 1)
