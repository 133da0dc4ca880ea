"""Rows that samples share, against each sample's own tokens."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from constellation.branches import Branches

CHUNK, LIMIT, STOP = 4, 9, 0


def decode(samples: list[list[int]], rows: int, at_once: bool) -> tuple[list[list[int]], int, int]:
    """Decodes samples that are to draw these tokens.

    A cache holds for each row what its KV would be of. Returns the tokens that were drawn, how many samples
    ended, and how many places of rows were decoded.
    """
    branches = Branches(rows, LIMIT, np.array([STOP]))
    cache = [[-1] * (LIMIT + CHUNK) for _ in range(rows)]
    drawn = [[own[0]] for own in samples]
    ended, decoded = branches.begin(0, [own[0] for own in samples]), 0
    while True:
        branches.resume()
        for row in range(rows if at_once else 1):
            if not branches.together[row]:
                branches.take_over(row, range(rows))
        for source, target in branches.copies:
            cache[target] = list(cache[source])
        branches.copies.clear()
        drawing = branches.drawing()
        if not drawing.leaders:
            assert branches.idle(range(rows))
            return drawn, ended, decoded
        tokens = np.zeros((len(drawing.rows), CHUNK), int)
        for i, (row, sample) in enumerate(zip(drawing.rows, drawing.samples, strict=True)):
            count, own = int(branches.length[row]), [*samples[sample], *[7] * (LIMIT + CHUNK)]
            # What the row attends to is what the sample has drawn, and it draws on from there.
            assert [*cache[row][: count - 1], branches.last[row]] == own[:count] == drawn[sample][:count]
            tokens[i] = own[count : count + CHUNK]
            drawn[sample][count:] = own[count : count + CHUNK]
        for row, new in zip(drawing.rows[: drawing.leaders], tokens, strict=False):
            count = int(branches.length[row])
            cache[row][count - 1 : count - 1 + CHUNK] = [int(branches.last[row]), *new[:-1].tolist()]
            decoded += CHUNK
        ended += branches.record(drawing, tokens)


def cut(tokens: list[int]) -> list[int]:
    """Up to the stop token or the limit."""
    tokens = tokens[:LIMIT]
    return tokens[: tokens.index(STOP) + 1] if STOP in tokens else tokens


@settings(deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=LIMIT, max_size=LIMIT), min_size=1, max_size=12),
    st.integers(1, 4),
    st.booleans(),
)
def test_every_sample_draws_its_own_tokens(samples: list[list[int]], rows: int, at_once: bool) -> None:
    drawn, ended, _ = decode(samples, rows, at_once)
    assert [cut(own) for own in drawn] == [cut(own) for own in samples]
    assert ended == len(samples)


def test_what_samples_have_in_common_is_decoded_once() -> None:
    alike, other = [1, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 2, 0]
    assert decode([alike] * 10, 1, False)[2] == 2 * CHUNK
    assert decode([alike] * 10 + [other] * 10, 1, False)[2] == 3 * CHUNK
    assert decode([alike, [2, *alike]], 1, False)[2] == 4 * CHUNK


def test_an_idle_row_goes_on_at_the_first_fork_of_another() -> None:
    branches = Branches(2, LIMIT, np.array([STOP]))
    assert branches.begin(0, [1, 1, 1, 1, STOP]) == 1
    branches.resume()
    drawing = branches.drawing()
    assert branches.together == [[0, 1, 2, 3], []]
    drawn = np.array([[1, 1, 1, 1], [1, 1, 2, 1], [3, 1, 1, 1], [3, 1, 1, 1]])
    assert branches.record(drawing, drawn) == 0
    assert [(fork.length, fork.last, fork.samples) for fork in branches.forks[0]] == [
        (2, 3, [2, 3]),
        (4, 2, [1]),
    ]
    assert branches.take_over(1, range(2)) == 0
    assert branches.copies == [(0, 1)]
    assert branches.together == [[0], [2, 3]]
    assert (branches.length.tolist(), branches.last.tolist()) == ([5, 2], [1, 3])
    assert branches.take_over(1, [1]) is None
