"""Which samples each row of a decoding batch decodes: those that have drawn the same tokens share a row.

Samples of a task begin alike, and while they do, their logits are the same. A row computes these once, for
one sample that leads and for all that follow, and each of them draws by its own noise. A sample that draws
another token than its leader waits at that fork. When the leader has ended, the row comes back to its last
fork, before which it holds all KV already; or an idle row goes on from another row's first fork, with a
copy of its KV. So no beginning that several samples have in common is computed twice, and the draws are the
same.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]


class Fork(NamedTuple):
    """Samples that left a row: they have drawn the same tokens, of which only the last is not the row's."""

    length: int  # how many tokens these are
    last: int
    samples: list[int]


class Drawing(NamedTuple):
    """The samples that draw in a chunk: those that lead a row, then those that follow."""

    rows: Integers  # [leaders + followers]
    samples: Integers  # likewise
    leaders: int

    @property
    def followers(self) -> int:
        return len(self.rows) - self.leaders


class Branches:
    """The rows of a batch.

    Attributes:
        together: of each row the samples that it decodes, the leader first; none where it is idle.
        length: [rows] how many tokens these have drawn, at least 1.
        last: [rows] the last of these.
        forks: of each row who waits, the first to leave first.
        copies: from which row to which the KV have to be copied before the next chunk.
    """

    def __init__(self, rows: int, limit: int, stop_ids: NDArray[np.int_]) -> None:
        """`limit` is the number of tokens, a stop token's included, after which a sample is cut short."""
        self.limit, self.stop_ids = limit, stop_ids
        self.together: list[list[int]] = [[] for _ in range(rows)]
        self.length, self.last = np.ones(rows, np.int32), np.zeros(rows, np.int32)
        self.forks: list[list[Fork]] = [[] for _ in range(rows)]
        self.copies: list[tuple[int, int]] = []

    def idle(self, rows: Iterable[int]) -> bool:
        """Whether there is nothing to decode in any of these rows."""
        return not any(self.together[row] or self.forks[row] for row in rows)

    def begin(self, row: int, first: Sequence[int]) -> int:
        """Gives an idle row samples, 0 and so on, by their first tokens; returns how many end with these."""
        ended = self._stops(np.array(first), 1)
        going = [(1, first[sample], sample) for sample in np.flatnonzero(~ended).tolist()]
        self.forks[row] = _grouped(going)
        return int(ended.sum())

    def resume(self) -> None:
        """Idle rows come back to their own last forks."""
        for row, forks in enumerate(self.forks):
            if forks and not self.together[row]:
                self._go_on(row, forks.pop())

    def take_over(self, row: int, others: Iterable[int]) -> int | None:
        """Goes on in an idle row from the first fork of the row, among others, at which most samples wait.

        Returns that row, or None where nobody waits.
        """
        forked = [other for other in others if self.forks[other]]
        if not forked:
            return None
        other = max(forked, key=self._waiting)
        fork = self.forks[other].pop(0)
        if fork.length > 1:
            self.copies.append((other, row))
        self._go_on(row, fork)
        return other

    def drawing(self) -> Drawing:
        """Who draws in the next chunk; empty when all is decoded."""
        busy = [(row, samples) for row, samples in enumerate(self.together) if samples]
        pairs = [(row, samples[0]) for row, samples in busy]
        pairs += [(row, sample) for row, samples in busy for sample in samples[1:]]
        rows, samples = np.array(pairs, int).reshape(-1, 2).T
        return Drawing(rows, samples, len(busy))

    def record(self, drawing: Drawing, drawn: Integers) -> int:
        """Takes in the tokens [samples, chunk] that were drawn; returns how many samples have ended.

        A follower's tokens count up to the first that is not its leader's.
        """
        rows, samples, leaders = drawing
        chunk, length = drawn.shape[1], self.length[rows]
        stops = self._stops(drawn, length[:, None] + np.arange(1, chunk + 1))
        leader = np.zeros(len(self.together), int)
        leader[rows[:leaders]] = np.arange(leaders)
        leader = leader[rows]  # [samples] whom each follows
        end = _first(stops)[leader]  # where the leader ends
        fork = _first(drawn != drawn[leader])  # where a follower leaves
        leaves = fork < np.minimum(end + 1, chunk)
        at_fork = np.take_along_axis(stops, np.minimum(fork, chunk - 1)[:, None], axis=1)[:, 0]
        ends = np.where(leaves, at_fork, end < chunk)

        waiting: dict[int, list[tuple[int, int, int]]] = {}
        for i in np.flatnonzero(leaves).tolist():
            row, sample = int(rows[i]), int(samples[i])
            self.together[row].remove(sample)
            if not ends[i]:
                left = int(length[i] + fork[i] + 1), int(drawn[i, fork[i]]), sample
                waiting.setdefault(row, []).append(left)
        for row, left_here in waiting.items():
            self.forks[row] += _grouped(left_here)
        for row in rows[:leaders][end[:leaders] < chunk].tolist():
            self.together[row] = []
        self.length[rows[:leaders]] += chunk
        self.last[rows[:leaders]] = drawn[:leaders, -1]
        return int(ends.sum())

    def _stops(self, tokens: Integers, counts: Integers | int) -> NDArray[np.bool_]:
        """Whether a sample ends with these tokens, having so many then."""
        stops: NDArray[np.bool_] = np.isin(tokens, self.stop_ids) | (np.asarray(counts) >= self.limit)
        return stops

    def _waiting(self, row: int) -> int:
        """How many samples wait at the forks of a row."""
        return sum(len(fork.samples) for fork in self.forks[row])

    def _go_on(self, row: int, fork: Fork) -> None:
        self.length[row], self.last[row], self.together[row] = fork


def _first(which: NDArray[np.bool_]) -> Integers:
    """[n, chunk] -> [n] the first place that is true, or the chunk's length."""
    return np.where(which.any(axis=1), which.argmax(axis=1), which.shape[1])


def _grouped(waiting: Iterable[tuple[int, int, int]]) -> list[Fork]:
    """(length, last token, sample) of samples that left one row -> the forks at which they wait."""
    groups = itertools.groupby(sorted(waiting), lambda one: one[:2])
    return [Fork(length, last, [sample for *_, sample in group]) for (length, last), group in groups]
