"""Lines by a clock of our own; metrics read back from both files."""

from __future__ import annotations

import io
import json
import struct

import pytest
from tensorboardX.proto import event_pb2

from constellation.runtime.progress import Metrics, Progress, Schedule, read_metrics


class Clock:
    """Stands still, but for what a test adds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_line(clock):
    bar = Progress("sampling hard", total=25_600, unit="samples", stream=io.StringIO(), clock=clock)
    assert bar.line() == "sampling hard  0/25,600 samples, 0/s, 0:00 elapsed, ? left"
    clock.now += 4
    bar.update(6400, loss=0.123456)
    assert bar.line() == "sampling hard  6,400/25,600 samples, 1,600/s, 0:04 elapsed, 0:12 left, loss 0.1235"
    clock.now += 3600
    bar.update(19_200)
    assert bar.line() == "sampling hard  25,600/25,600 samples, 7.1/s, 1:00:04 elapsed, loss 0.1235"


def test_a_resumed_job_does_not_count_what_it_found(clock):
    bar = Progress("training", total=100, unit="updates", done=80, stream=io.StringIO(), clock=clock)
    clock.now += 10
    bar.update(5)
    assert bar.line() == "training  85/100 updates, 0.5/s, 0:10 elapsed, 0:30 left"


def test_a_line_every_ten_seconds_in_a_log(clock):
    stream = io.StringIO()
    with Progress("x", total=100, unit="steps", stream=stream, clock=clock) as bar:
        for _ in range(100):
            clock.now += 0.35
            bar.update()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 4 and all(line.startswith("x  ") for line in lines)
    assert lines[0].startswith("x  29/100 steps") and lines[-1].startswith("x  100/100 steps")
    assert "\r" not in stream.getvalue()


def test_one_living_line_on_a_terminal(clock):
    stream = Terminal()
    with Progress("x", total=10, unit="steps", stream=stream, clock=clock) as bar:
        for _ in range(10):
            clock.now += 0.15
            bar.update()
    lines = stream.getvalue().split("\r")[1:]
    assert len(lines) == 6 and stream.getvalue().count("\n") == 1
    assert lines[-1].startswith("x  10/10 steps") and lines[-1].endswith("\n")


def board(directory) -> list[tuple[int, dict[str, float]]]:
    """(step, values) in TensorBoard's files, in order; a purge drops what lies at its step or later."""
    found: list[tuple[int, dict[str, float]]] = []
    for path in sorted(directory.glob("events.out.tfevents.*")):
        content = path.read_bytes()
        while content:  # TFRecord: length, its checksum, data, its checksum
            (length,) = struct.unpack("<Q", content[:8])
            event = event_pb2.Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.HasField("session_log") and event.session_log.status == event_pb2.SessionLog.START:
                found = [row for row in found if row[0] < event.step]
            if event.HasField("summary"):
                found.append((event.step, {value.tag: value.simple_value for value in event.summary.value}))
    return found


def test_metrics_read_back(tmp_path):
    with Metrics(tmp_path) as metrics:
        metrics.write(1, loss=0.5)
        metrics.write(2, loss=0.25)
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]
    assert board(tmp_path) == [(1, {"loss": 0.5}), (2, {"loss": 0.25})]


def test_resumed_metrics_have_every_step_once(tmp_path):
    with Metrics(tmp_path) as metrics:
        for step in range(5):
            metrics.write(step, loss=float(step))
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 5, "lo')  # the kill came here
    with Metrics(tmp_path, resumed_from=2) as metrics:
        for step in (3, 4, 5):
            metrics.write(step, loss=step / 2)
    expected = {0: 0.0, 1: 1.0, 2: 2.0, 3: 1.5, 4: 2.0, 5: 2.5}
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["loss"]) for row in rows] == list(expected.items())
    assert [(step, values["loss"]) for step, values in board(tmp_path)] == list(expected.items())


def test_metrics_start_afresh(tmp_path):
    for value in (1.0, 2.0):
        with Metrics(tmp_path) as metrics:
            metrics.write(0, loss=value)
    assert read_metrics(tmp_path) == [{"step": 0, "loss": 2.0}]
    assert board(tmp_path) == [(0, {"loss": 2.0})]


def test_a_schedule_weighs_what_is_left_by_the_pace_so_far() -> None:
    schedule = Schedule({"tasks": 0.0, "v1": 10.0, "v2": 30.0, "report": 0.0})
    assert schedule.line() == " (0 of 4 stages done)"
    schedule.finish("tasks")  # was there already
    assert schedule.line() == " (1 of 4 stages done)"
    schedule.finish("v1", 20.0)  # half as fast as planned
    assert schedule.line() == " (2 of 4 stages done, about 1:00 left)"
    schedule.finish("v1")
    schedule.finish("another", 20.0)  # unplanned work takes its time, too
    assert schedule.line() == " (2 of 4 stages done, about 2:00 left)"
    assert Schedule({}).line() == ""
