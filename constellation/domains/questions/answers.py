"""The judge of answers, and the process that reads them: both come to an end, whatever a model writes."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import threading
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from constellation.domains.domain import Verdict
from constellation.domains.task import Split, Task

END = 4000  # characters at the end of a text that are read
SECONDS = 2.0  # of processor time that reading an answer may take; none of MATH-500's takes 0.4

_lock = threading.Lock()
_reader: Connection | None = None


class Reading(NamedTuple):
    """What an answer says.

    Attributes:
        key: equal for answers that are the same number, or are written the same.
        boxed: whether it stands in a box.
        equal: whether it is the gold answer.
        listed: whether it is a list of a few values, one of which is the gold answer, a single value.
    """

    key: str
    boxed: bool
    equal: bool
    listed: bool


def judge(task: Task, split: Split, text: str) -> Verdict:
    r"""Right is the exact match: the gold answer in a `\boxed{}`. A flexible match needs no box.

    A flexible match is also a list of a few values that has the gold answer, a single value, among them: some
    questions ask for several values where their file has one of them. So it is an upper bound.
    """
    reading = _read(text, task.examples[0].output)
    if reading is None:
        return Verdict(valid=False, faults=1, key=text.strip(), flexible=False)
    return Verdict(
        valid=True,
        faults=int(not reading.boxed),
        fits=reading.boxed,
        right=reading.boxed and reading.equal,
        key=reading.key,
        flexible=reading.equal or reading.listed,
    )


def answer_key(split: Split, text: str) -> str:
    """The value, however it is written; the text itself where it holds none."""
    reading = _read(text, None)
    return text.strip() if reading is None else reading.key


def _read(text: str, gold: str | None) -> Reading | None:
    """What the end of a text says, as `reading.read`; None also if that takes too long."""
    global _reader
    with _lock:
        reader, _reader = _reader or _start(), None  # none is left if this is interrupted
        try:
            reader.send((text[-END:], gold))
            found: Reading | None = reader.recv()
        except (EOFError, OSError):  # the process has been ended; the next text gets another one
            return None
        _reader = reader
        return found


def _start() -> Connection:
    """A process that reads answers; spawned, as a fork of one in which JAX has started threads may hang."""
    context = multiprocessing.get_context("spawn")
    ours, its = context.Pipe()
    context.Process(target=_serve, args=(its,), daemon=True).start()
    its.close()  # so that its end is noticed
    ours.recv()  # it has imported what it needs, which no answer's time counts
    return ours


def _serve(connection: Connection) -> None:
    """Reads what arrives, until the other side is gone or the system ends the process for taking too long."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is for the process that asks
    with contextlib.suppress(OSError):  # this process is to be ended, too, where memory runs out; on Linux
        Path("/proc/self/oom_score_adj").write_text("1000")
    from constellation.domains.questions.reading import read  # half a second, which only this process needs

    connection.send("ready")
    while True:
        try:
            text, gold = connection.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            found = read(text, gold)
        except Exception:  # SymPy and the parsers raise many kinds; all mean that there is no answer
            found = None
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send(found)
