"""Judged samples that say given values."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from constellation.domains.domain import Verdict
from constellation.samples import SampleSet, collect


def answered(
    values: Sequence[Sequence[int]],
    right: Collection[int] = (),
    invalid: Collection[int] = (),
    unfinished: Collection[int] = (),
    loose: Collection[int] = (),
) -> SampleSet:
    """Samples [T, n] whose texts are these values; `loose` ones are right in another format only."""
    tokens = [[np.array([value], np.int32) for value in row] for row in values]
    finished = [[value not in unfinished for value in row] for row in values]
    texts = [[str(value) for value in row] for row in values]
    drawn = collect([f"task {t}" for t in range(len(values))], tokens, finished, texts, {})

    def verdict(task: int, text: str) -> Verdict:
        value = int(text)
        return Verdict(
            valid=value not in invalid,
            fits=value not in invalid and value not in loose,
            right=value in right,
            key=0 if value in loose else value,
            flexible=value in right or value in loose,
        )

    return drawn.judge(verdict)
