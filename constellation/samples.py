"""Samples and their verdicts, stored once and analysed many times; columnar, numpy only.

For T tasks and n samples each, every sample points at a row of a table of distinct programs, so that a
program is judged once however often it was drawn. `meta` holds everything that identifies the samples: hashes
of base and adapter, bank, split seed, sampling config, arm, replicate.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from constellation.domains.domain import Verdict
from constellation.runtime.errors import UserError
from constellation.runtime.files import write_atomically

_FORMAT = 1


@dataclass(frozen=True)
class SampleSet:
    """n samples for each of T tasks; D distinct programs and K tokens in all.

    Per sample:
        task_ids: [T] str (object array, as text).
        program: [T, n] int32, row of the program table.
        finished: [T, n] bool, whether the answer reached a stop id.
        tokens: [K] int32, answers end to end in (task, sample) order, without stop ids.
        token_offsets: [T * n + 1] int64; sample s = t * n + i is tokens[offsets[s] : offsets[s + 1]].
    Per distinct program, grouped by task in task order, in order of first appearance:
        task: [D] int32, index into task_ids.
        text: [D] str, the answer as decoded.
        parsed, fits, generalises: [D] bool. An unfinished answer is no program: never parsed.
        faults: [D] int32.
        probe_correct: [D] int32, of the task's probes; -1 where they were not run.
        output_cluster: [D] int32; two programs of a task share it iff their held-out outputs are the same;
            -1 where not parsed.
        length: [D] int32, tokens of its first appearance.
    """

    task_ids: np.ndarray
    program: np.ndarray
    finished: np.ndarray
    tokens: np.ndarray
    token_offsets: np.ndarray
    task: np.ndarray
    text: np.ndarray
    parsed: np.ndarray
    fits: np.ndarray
    generalises: np.ndarray
    faults: np.ndarray
    probe_correct: np.ndarray
    output_cluster: np.ndarray
    length: np.ndarray
    meta: dict[str, Any]

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(f"not a consistent sample set: {problem}")

    @property
    def n(self) -> int:
        """Samples a task."""
        return self.program.shape[1]

    def per_sample(self, column: np.ndarray) -> np.ndarray:
        """A table column [D], or one made from them, laid out by sample: [T, n]."""
        return column[self.program]

    def sample_tokens(self, task: int, sample: int) -> np.ndarray:
        """Token ids of one answer: [length] int32."""
        start, stop = self.token_offsets[task * self.n + sample :][:2]
        return self.tokens[start:stop]

    def programs_of(self, task: int) -> slice:
        """The table rows of a task."""
        start, stop = np.searchsorted(self.task, [task, task + 1])
        return slice(int(start), int(stop))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one .npz; the same samples give the same bytes. Raises UserError when the disk is full."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        for name in _TEXT_COLUMNS:
            columns |= dict(zip((name, f"{name}_offsets"), _pack(columns[name]), strict=True))
        header = json.dumps({"format": _FORMAT, "meta": self.meta}, sort_keys=True, allow_nan=False)
        columns["header"] = np.frombuffer(header.encode(), np.uint8)
        write_atomically(Path(path), lambda file: np.savez_compressed(file, **columns))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SampleSet:
        """Reads what `save` wrote.

        Raises:
            UserError: there is no such file, or it is damaged.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                columns = dict(file)
            header = json.loads(columns.pop("header").tobytes())
            if header["format"] != _FORMAT:
                raise UserError(
                    f"{path} has sample format {header['format']}, this code reads {_FORMAT}: sample again"
                )
            for name in _TEXT_COLUMNS:
                columns[name] = _unpack(columns[name], columns.pop(f"{name}_offsets"))
            return cls(**columns, meta=header["meta"])
        except FileNotFoundError:
            raise UserError(f"no samples at {path}: run the stage that draws them") from None
        except UserError:
            raise
        except Exception as error:  # zip, zlib, numpy, JSON and our own check each have their own
            raise UserError(
                f"the samples in {path} are damaged ({error}): delete their stage and draw them again"
            ) from error

    def _problem(self) -> str | None:
        """What contradicts the class's description, if anything; D, T, n are taken from task and program."""
        if self.program.ndim != 2 or self.task.ndim != 1:
            return "program is not [T, n] or task not [D]"
        tasks, n = self.program.shape
        shapes = {"task_ids": (tasks,), "finished": (tasks, n), "token_offsets": (tasks * n + 1,)}
        shapes |= {name: self.task.shape for name in _PROGRAM_COLUMNS}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                return f"{name} is {getattr(self, name).shape}, not {shape}"
        for name, dtype in _COLUMNS.items():
            if getattr(self, name).dtype.kind != np.dtype(dtype).kind:
                return f"{name} is {getattr(self, name).dtype}, not {np.dtype(dtype)}"
        if self.token_offsets[0] != 0 or self.token_offsets[-1] != len(self.tokens):
            return "token_offsets do not span tokens"
        if (np.diff(self.token_offsets) < 0).any() or (np.diff(self.task) < 0).any():
            return "token_offsets or task decrease"
        if self.program.size and not 0 <= self.program.min() <= self.program.max() < len(self.task):
            return "program points outside the table"
        if (self.task[self.program] != np.arange(tasks)[:, None]).any():
            return "a sample points at another task's program"
        return None


_TEXT_COLUMNS = ("task_ids", "text")
_PROGRAM_COLUMNS = (
    "text",
    "parsed",
    "fits",
    "generalises",
    "faults",
    "probe_correct",
    "output_cluster",
    "length",
)
_COLUMNS: dict[str, type] = {
    "task_ids": np.object_,
    "program": np.int32,
    "finished": np.bool_,
    "tokens": np.int32,
    "token_offsets": np.int64,
    "task": np.int32,
    "text": np.object_,
    "parsed": np.bool_,
    "fits": np.bool_,
    "generalises": np.bool_,
    "faults": np.int32,
    "probe_correct": np.int32,
    "output_cluster": np.int32,
    "length": np.int32,
}


def collect(
    task_ids: Sequence[str],
    answers: Sequence[Sequence[np.ndarray]],
    finished: Sequence[Sequence[bool]],
    texts: Sequence[Sequence[str]],
    judge: Callable[[int, str], Verdict],
    meta: dict[str, Any],
) -> SampleSet:
    """Judges every distinct program of each task once and lays the samples out in columns.

    Args:
        task_ids: T ids.
        answers: T lists of n arrays of token ids, without stop ids.
        finished: T lists of n flags.
        texts: T lists of n answers as text.
        judge: (index of the task, text) to verdict; not called for unfinished answers.
        meta: JSON values that identify the samples.
    """
    program = np.zeros((len(task_ids), len(answers[0]) if answers else 0), np.int32)
    table: dict[str, list[Any]] = {name: [] for name in ("task", *_PROGRAM_COLUMNS)}
    for t, task_texts in enumerate(texts):
        rows: dict[tuple[str, bool], int] = {}
        clusters: dict[Hashable, int] = {}
        for i, (text, done) in enumerate(zip(task_texts, finished[t], strict=True)):
            if (text, bool(done)) not in rows:
                rows[text, bool(done)] = len(table["task"])
                row = {"task": t, "text": text, "length": len(answers[t][i]), **_UNPARSED}
                if done:
                    row |= _verdict_row(judge(t, text), clusters)
                for name, column in table.items():
                    column.append(row[name])
            program[t, i] = rows[text, bool(done)]
    flat = [np.asarray(answer, np.int32) for task in answers for answer in task]
    return SampleSet(
        task_ids=np.array(task_ids, np.object_),
        program=program,
        finished=np.array(finished, np.bool_).reshape(program.shape),
        tokens=np.concatenate([np.zeros(0, np.int32), *flat]),
        token_offsets=np.cumsum([0, *map(len, flat)], dtype=np.int64),
        **{name: np.array(column, _COLUMNS[name]) for name, column in table.items()},
        meta=meta,
    )


_UNPARSED: dict[str, Any] = {
    "parsed": False,
    "fits": False,
    "generalises": False,
    "faults": 0,
    "probe_correct": -1,
    "output_cluster": -1,
}


def _verdict_row(verdict: Verdict, clusters: dict[Hashable, int]) -> dict[str, Any]:
    """A verdict's columns; numbers the task's distinct keys in `clusters`."""
    return {
        "parsed": verdict.valid,
        "fits": verdict.fits,
        "generalises": verdict.right,
        "faults": verdict.faults,
        "probe_correct": verdict.probe_correct,
        "output_cluster": clusters.setdefault(verdict.key, len(clusters)) if verdict.valid else -1,
    }


def _pack(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strings as UTF-8 bytes end to end and their offsets: numpy's own strings pad each to the longest."""
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts.tolist()]
    return np.frombuffer(b"".join(encoded), np.uint8), np.cumsum([0, *map(len, encoded)], dtype=np.int64)


def _unpack(content: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    joined = content.tobytes()
    texts = [
        joined[start:stop].decode("utf-8", "surrogatepass") for start, stop in itertools.pairwise(offsets)
    ]
    return np.array(texts, np.object_)
