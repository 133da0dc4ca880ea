"""Samples and their verdicts, stored once and analysed many times; columnar, numpy only.

For T tasks and n samples each, every sample points at a row of a table of distinct programs, so that a
program is judged once however often it was drawn. Drawing and judging are two steps: samples may be unjudged,
and whoever reads a verdict of those is told so.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from constellation.domains.domain import Verdict
from constellation.runtime.errors import UserError
from constellation.runtime.files import write_atomically

_FORMAT = 2


@dataclass(frozen=True)
class Verdicts:
    """The verdicts on D distinct answers: what a store has to hold of a domain; see `domain.Verdict`.

    Attributes:
        valid, fits, right: [D] bool. An unfinished answer is none: never valid.
        key: [D] int32; two answers to a task share it iff the domain's `answer_key` of both is the same; -1
            where not valid.
        faults, probe_correct: [D] int32.
        flexible: [D] bool, right in whatever format; stored where it is not `right`.
    """

    valid: np.ndarray
    fits: np.ndarray
    right: np.ndarray
    key: np.ndarray
    faults: np.ndarray
    probe_correct: np.ndarray
    flexible: np.ndarray = None  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        if self.flexible is None:
            object.__setattr__(self, "flexible", self.right)

    def columns(self) -> dict[str, Any]:
        """What is stored of them, by name."""
        same = np.array_equal(self.flexible, self.right)
        names = [name for name in _VERDICT_COLUMNS if not (same and name == "flexible")]
        return {name: getattr(self, name) for name in names}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one .npz; the same verdicts give the same bytes. Raises UserError when the disk is full."""
        columns = self.columns()
        write_atomically(Path(path), lambda file: np.savez_compressed(file, **columns))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Verdicts:
        """Reads what `save` wrote. Raises UserError: there is no such file, or it is damaged."""
        try:
            return cls(**_columns_in(path, "verdicts", "judge"))
        except TypeError as error:
            raise _damaged(path, error, "verdicts", "judge") from error


def _verdict_column(name: str) -> Any:
    """[D] that column of `SampleSet.judged`."""
    return property(lambda samples: getattr(samples.judged(), name))


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
        length: [D] int32, tokens of its first appearance.
        ended: [D] bool, whether it is the text of finished answers; cut off, the same text is another row.
    meta: what identifies the samples: hashes of base and adapter, bank, split seed, sampling config, arm.
    verdicts: on the distinct programs; None where nobody has judged them.
    """

    task_ids: np.ndarray
    program: np.ndarray
    finished: np.ndarray
    tokens: np.ndarray
    token_offsets: np.ndarray
    task: np.ndarray
    text: np.ndarray
    length: np.ndarray
    ended: np.ndarray
    meta: dict[str, Any]
    verdicts: Verdicts | None = None

    valid = _verdict_column("valid")
    fits = _verdict_column("fits")
    right = _verdict_column("right")
    key = _verdict_column("key")
    faults = _verdict_column("faults")
    probe_correct = _verdict_column("probe_correct")
    flexible = _verdict_column("flexible")

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ValueError(f"not a consistent sample set: {problem}")

    def judge(self, verdict: Callable[[int, str], Verdict]) -> SampleSet:
        """The same samples, every distinct finished program judged once, by (index of the task, text)."""
        rows = [_NO_ANSWER] * len(self.task)
        clusters: list[dict[Hashable, int]] = [{} for _ in self.task_ids]
        for d in np.flatnonzero(self.ended):
            t = int(self.task[d])
            found = verdict(t, str(self.text[d]))
            cluster = clusters[t].setdefault(found.key, len(clusters[t])) if found.valid else -1
            columns = found.valid, found.fits, found.right, cluster, found.faults, found.probe_correct
            rows[d] = (*columns, found.matches)
        table = zip(*rows, strict=True) if rows else [()] * len(_VERDICT_COLUMNS)
        named = zip(_VERDICT_COLUMNS.items(), table, strict=True)
        return replace(self, verdicts=Verdicts(**{name: np.array(c, dtype) for (name, dtype), c in named}))

    def judged(self) -> Verdicts:
        """The verdicts. Raises UserError: nobody has judged these samples."""
        if self.verdicts is None:
            raise UserError("these samples are not judged: their domain has no judge, or was not asked")
        return self.verdicts

    @property
    def n(self) -> int:
        """Samples a task."""
        return self.program.shape[1]

    @property
    def counts(self) -> np.ndarray:
        """How many samples wrote each distinct program, [D]."""
        return np.bincount(self.program.ravel(), minlength=len(self.task))

    def sum_by_task(self, values: np.ndarray) -> np.ndarray:
        """The sum over each task's distinct programs of values [D]: [T] float64."""
        return np.bincount(self.task, values, len(self.task_ids)).astype(np.float64)

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

    def rows_where(self, column: np.ndarray, task: int) -> np.ndarray:
        """The table rows of a task for which a column [D] bool is true."""
        rows = self.programs_of(task)
        return np.flatnonzero(column[rows]) + rows.start

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one .npz; the same samples give the same bytes. Raises UserError when the disk is full."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        for name in _TEXT_COLUMNS:
            columns |= dict(zip((name, f"{name}_offsets"), _pack(columns[name]), strict=True))
        if self.verdicts is not None:
            columns |= self.verdicts.columns()
        header = json.dumps({"format": _FORMAT, "meta": self.meta}, sort_keys=True, allow_nan=False)
        columns["header"] = np.frombuffer(header.encode(), np.uint8)
        write_atomically(Path(path), lambda file: np.savez_compressed(file, **columns))

    @classmethod
    def load(cls, path: str | os.PathLike[str], verdicts: str | os.PathLike[str] | None = None) -> SampleSet:
        """Reads what `save` wrote, and `verdicts` from where they lie if they were stored by themselves.

        Raises UserError: there is no such file, or it is damaged.
        """
        columns = _columns_in(path)
        try:
            header = json.loads(columns.pop("header").tobytes())
            if header["format"] != _FORMAT:
                raise UserError(
                    f"{path} has sample format {header['format']}, this code reads {_FORMAT}: sample again"
                )
            for name in _TEXT_COLUMNS:
                columns[name] = _unpack(columns[name], columns.pop(f"{name}_offsets"))
            own = {name: columns.pop(name) for name in _VERDICT_COLUMNS if name in columns}
            judged = Verdicts.load(verdicts) if verdicts else Verdicts(**own) if own else None
            return cls(**columns, meta=header["meta"], verdicts=judged)
        except UserError:
            raise
        except Exception as error:  # numpy, JSON and our own check each have their own
            raise _damaged(path, error) from error

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
        for name, dtype in _VERDICT_COLUMNS.items() if self.verdicts is not None else ():
            column = getattr(self.verdicts, name)
            if column.shape != self.task.shape or column.dtype.kind != np.dtype(dtype).kind:
                return f"{name} is {column.dtype} {column.shape}, not {np.dtype(dtype)} {self.task.shape}"
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
_PROGRAM_COLUMNS = ("text", "length", "ended")
_COLUMNS: dict[str, type] = {
    "task_ids": np.object_,
    "program": np.int32,
    "finished": np.bool_,
    "tokens": np.int32,
    "token_offsets": np.int64,
    "task": np.int32,
    "text": np.object_,
    "length": np.int32,
    "ended": np.bool_,
}
_VERDICT_COLUMNS: dict[str, type] = {
    field.name: np.bool_ if field.name in ("valid", "fits", "right", "flexible") else np.int32
    for field in fields(Verdicts)
}
_NO_ANSWER = (False, False, False, -1, 0, -1, False)


def collect(
    task_ids: Sequence[str],
    answers: Sequence[Sequence[np.ndarray]],
    finished: Sequence[Sequence[bool]],
    texts: Sequence[Sequence[str]],
    meta: dict[str, Any],
) -> SampleSet:
    """Lays n samples of each of T tasks out in columns, unjudged.

    Answers are token ids without stop ids; `meta` is JSON values that identify the samples.
    """
    program = np.zeros((len(task_ids), len(answers[0]) if answers else 0), np.int32)
    table: list[tuple[int, str, int, bool]] = []
    for t, task_texts in enumerate(texts):
        rows: dict[tuple[str, bool], int] = {}
        for i, (text, done) in enumerate(zip(task_texts, finished[t], strict=True)):
            if (text, bool(done)) not in rows:
                rows[text, bool(done)] = len(table)
                table.append((t, text, len(answers[t][i]), bool(done)))
            program[t, i] = rows[text, bool(done)]
    names = ("task", "text", "length", "ended")
    columns: dict[str, Any] = {
        name: np.array([row[i] for row in table], _COLUMNS[name]) for i, name in enumerate(names)
    }
    flat = [np.asarray(answer, np.int32) for task in answers for answer in task]
    return SampleSet(
        task_ids=np.array(task_ids, np.object_),
        program=program,
        finished=np.array(finished, np.bool_).reshape(program.shape),
        tokens=np.concatenate([np.zeros(0, np.int32), *flat]),
        token_offsets=np.cumsum([0, *map(len, flat)], dtype=np.int64),
        **columns,
        meta=meta,
    )


def _columns_in(
    path: str | os.PathLike[str], what: str = "samples", make: str = "draw"
) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise UserError(f"no {what} at {path}: run the stage that {make}s them") from None
    except Exception as error:  # zip and zlib each have their own
        raise _damaged(path, error, what, make) from error


def _damaged(
    path: str | os.PathLike[str], error: Exception, what: str = "samples", make: str = "draw"
) -> UserError:
    return UserError(f"the {what} in {path} are damaged ({error}): delete their stage and {make} them again")


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
