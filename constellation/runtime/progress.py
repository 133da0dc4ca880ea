"""How far a long job is, on the terminal, and its numbers, in files."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from constellation.runtime.files import write_atomically

_TTY_SECONDS = 0.2
_LOG_SECONDS = 10.0


class Progress:
    """Prints label, done/total, rate and times: over its last line on a terminal, elsewhere every 10 s.

    Units that a resumed job finds `done` do not count for the rate. The stream is stderr by default, so that
    a program's own output stays clean.
    """

    def __init__(
        self,
        label: str,
        total: int,
        unit: str,
        *,
        done: int = 0,
        stream: IO[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.label, self.total, self.unit, self.done = label, total, unit, done
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._first = done
        self._clock = clock
        self._start = self._printed = clock()
        self._note = ""

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, units: int = 1, **values: float) -> None:
        """Counts finished units; `values` (a loss, say) are shown at the line's end."""
        self.done += units
        if values:
            self._note = "".join(f", {name} {value:.4g}" for name, value in values.items())
        now = self._clock()
        if now - self._printed >= (_TTY_SECONDS if self._tty else _LOG_SECONDS):
            self._printed = now
            self._print()

    def close(self) -> None:
        """Prints the last line, whether all units are done or not."""
        self._print()
        if self._tty:
            print(file=self._stream, flush=True)

    def line(self) -> str:
        rate = self._rate()
        elapsed = self._clock() - self._start
        left = (self.total - self.done) / rate if rate else math.inf
        remaining = f", {_duration(left)} left" if self.done < self.total else ""
        return (
            f"{self.label}  {self.done:,}/{self.total:,} {self.unit}, {_number(rate)}/s, "
            f"{_duration(elapsed)} elapsed{remaining}{self._note}"
        )

    def _rate(self) -> float:
        """Units a second of this process."""
        return (self.done - self._first) / max(self._clock() - self._start, 1e-9)

    def _print(self) -> None:
        # \x1b[K clears what a longer line before this one left behind.
        print(
            f"\r{self.line()}\x1b[K" if self._tty else self.line(),
            file=self._stream,
            end="" if self._tty else "\n",
        )
        self._stream.flush()


class Schedule:
    """How far a whole study is: stages done of all, and the time left by what is planned of those to come.

    `planned` is stage -> seconds, as the stages relate to one another; the pace is measured.
    """

    def __init__(self, planned: Mapping[str, float]):
        self._planned = dict(planned)
        self._done: set[str] = set()
        self._spent = self._costed = 0.0

    def finish(self, stage: str, seconds: float | None = None) -> None:
        """Counts a stage as done; `seconds` that it took, unless it was there already."""
        self._done.add(stage)
        if seconds is not None:
            self._spent += seconds
            self._costed += self._planned.get(stage, 0.0)

    def line(self) -> str:
        """ " (12 of 41 stages done, about 13:20 left)"; no time before one is measured, "" without a plan."""
        if not self._planned:
            return ""
        done = len(self._done & self._planned.keys())
        left = sum(seconds for stage, seconds in self._planned.items() if stage not in self._done)
        remaining = f", about {_duration(left * self._spent / self._costed)} left" if self._costed else ""
        return f" ({done} of {len(self._planned)} stages done{remaining})"


class Metrics:
    """Scalars by step, as JSON lines (`metrics.jsonl`) and for TensorBoard.

    A resumed job names the last step whose rows stay: later ones of the killed job, a torn last line too, are
    dropped, so that every step is there once. None starts afresh.
    """

    def __init__(self, directory: str | os.PathLike[str], resumed_from: int | None = None):
        from tensorboardX import SummaryWriter  # two seconds where torch is installed

        self._path = Path(directory) / "metrics.jsonl"
        rows = [] if resumed_from is None else read_metrics(directory)
        kept = "".join(json.dumps(row) + "\n" for row in rows if row["step"] <= resumed_from)
        write_atomically(self._path, lambda file: file.write(kept.encode()))
        self._file = open(self._path, "a")  # noqa: SIM115
        self._board = SummaryWriter(
            str(directory),
            purge_step=0 if resumed_from is None else resumed_from + 1,
            filename_suffix=f".{time.time_ns()}",  # two files of one second would be one
        )

    def __enter__(self) -> Metrics:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, step: int, **values: float) -> None:
        row = {"step": step, **{name: float(value) for name, value in values.items()}}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(name, float(value), step)

    def close(self) -> None:
        self._file.close()
        self._board.close()


def read_metrics(directory: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`, whole ones only; none when there is no such file."""
    path = Path(directory) / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _duration(seconds: float) -> str:
    """h:mm:ss, without the hours when there are none."""
    if math.isinf(seconds):
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
