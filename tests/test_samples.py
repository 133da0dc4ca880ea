"""Columns against one-by-one judging, round trips of any text, damage."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np
import pytest

from constellation.domains.domain import Verdict
from constellation.runtime.errors import UserError
from constellation.samples import SampleSet, Verdicts, collect

TEXTS = [
    "",
    "Upper(a)",
    "Lower(a)",
    "Lower(a) ",
    "ends in NUL\0",
    "ends in NUL",
    "é漢\n字",
    "\ud800",
    "x" * 500,
]


def judge(task: int, text: str) -> Verdict:
    """A verdict that depends on task and text alone."""
    bits = zlib.crc32(f"{task} {text!r}".encode())
    if bits % 4 == 0:
        return Verdict(valid=False)
    outputs = ("same", None) if bits % 3 else (text, "b")
    generalises = bits % 5 == 0
    return Verdict(
        True, bits % 2, generalises or bits % 5 == 1, generalises, outputs, 60 if generalises else -1
    )


def drawn(tasks: int = 7, n: int = 40, seed: int = 0) -> tuple[list, list, list, list]:
    """Task ids, answers, finished flags and texts of random samples; lengths from 0."""
    rng = np.random.default_rng(seed)
    texts = [[TEXTS[i] for i in row] for row in rng.integers(0, len(TEXTS), (tasks, n))]
    answers = [
        [rng.integers(0, 99, rng.integers(0, 6)).astype(np.int32) for _ in range(n)] for _ in range(tasks)
    ]
    finished = (rng.random((tasks, n)) < 0.9).tolist()
    return [f"hard-{i}é" for i in range(tasks)], answers, finished, texts


def make(meta: dict | None = None) -> SampleSet:
    ids, answers, finished, texts = drawn()
    return collect(ids, answers, finished, texts, meta or {"bank": "hard", "sampling": {"n": 40}}).judge(
        judge
    )


def assert_equal(one: SampleSet, other: SampleSet) -> None:
    for field in dataclasses.fields(SampleSet):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "meta":
            assert a == b
        elif field.name == "verdicts":
            assert (a is None) == (b is None)
            for column in dataclasses.fields(Verdicts) if a is not None else ():
                np.testing.assert_array_equal(getattr(a, column.name), getattr(b, column.name))
        else:
            assert a.dtype == b.dtype and a.shape == b.shape and (a == b).all(), field.name


def test_every_sample_has_its_own_verdict():
    ids, answers, finished, texts = drawn()
    samples = make()
    assert samples.task_ids.tolist() == ids and samples.n == 40
    columns = {
        name: samples.per_sample(getattr(samples, name)) for name in ("text", "valid", "fits", "right")
    }
    faults, probe_correct = samples.per_sample(samples.faults), samples.per_sample(samples.probe_correct)
    for t in range(len(ids)):
        for i in range(samples.n):
            verdict = judge(t, texts[t][i]) if finished[t][i] else Verdict(valid=False)
            assert columns["text"][t, i] == texts[t][i]
            assert columns["valid"][t, i] == verdict.valid
            assert columns["fits"][t, i] == verdict.fits and columns["right"][t, i] == verdict.right
            assert faults[t, i] == verdict.faults and probe_correct[t, i] == verdict.probe_correct
            assert samples.finished[t, i] == finished[t][i]
            assert samples.sample_tokens(t, i).tolist() == answers[t][i].tolist()


def test_output_clusters_are_the_held_out_outputs():
    samples = make()
    clusters = samples.key
    for d in range(len(samples.task)):
        assert (clusters[d] == -1) == (not samples.valid[d])
        for e in range(len(samples.task)):
            if samples.task[d] == samples.task[e] and samples.valid[d] and samples.valid[e]:
                t = int(samples.task[d])
                same = judge(t, samples.text[d]).key == judge(t, samples.text[e]).key
                assert (clusters[d] == clusters[e]) == same


def test_programs_are_distinct_and_judged_once():
    ids, answers, finished, texts = drawn()
    judged: list[tuple[int, str]] = []

    def counting(task: int, text: str) -> Verdict:
        judged.append((task, text))
        return judge(task, text)

    samples = collect(ids, answers, finished, texts, {}).judge(counting)
    done = {(t, x) for t, row in enumerate(texts) for x, ok in zip(row, finished[t], strict=True) if ok}
    cut = {(t, x) for t, row in enumerate(texts) for x, ok in zip(row, finished[t], strict=True) if not ok}
    assert len(judged) == len(set(judged)) and set(judged) == done
    assert len(samples.task) == len(done) + len(cut)
    for t in range(len(ids)):
        rows = samples.programs_of(t)
        assert (samples.task[rows] == t).all() and len(samples.task[rows]) == (samples.task == t).sum()
        first = [int(np.flatnonzero(samples.program[t] == d)[0]) for d in range(rows.start, rows.stop)]
        assert first == sorted(first)
        assert samples.length[rows].tolist() == [len(answers[t][i]) for i in first]


def test_sums_over_a_tasks_programs_are_those_over_its_samples():
    samples = make()
    assert samples.counts.sum() == samples.program.size
    right = samples.sum_by_task(samples.counts * samples.right)
    assert right.dtype == np.float64
    np.testing.assert_array_equal(right, samples.per_sample(samples.right).sum(1))


def test_round_trip_and_same_bytes(tmp_path):
    samples = make()
    samples.save(tmp_path / "a" / "samples.npz")
    assert_equal(SampleSet.load(tmp_path / "a" / "samples.npz"), samples)
    make().save(tmp_path / "b.npz")
    assert (tmp_path / "a" / "samples.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("shape", [(0, 0), (2, 0), (1, 1)])
def test_hardly_anything(tmp_path, shape):
    ids, answers, finished, texts = drawn(*shape)
    samples = collect(ids, answers, finished, texts, {}).judge(judge)
    assert samples.program.shape == shape
    samples.save(tmp_path / "s.npz")
    assert_equal(SampleSet.load(tmp_path / "s.npz"), samples)


def test_saving_over_a_set_replaces_it(tmp_path):
    for meta in ({"seed": 0}, {"seed": 1}):
        make(meta).save(tmp_path / "s.npz")
    assert SampleSet.load(tmp_path / "s.npz").meta == {"seed": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="no samples at"):
        SampleSet.load(tmp_path / "s.npz")


def test_damage_never_passes_for_samples(tmp_path):
    samples = make()
    samples.save(tmp_path / "s.npz")
    content = (tmp_path / "s.npz").read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    damaged = [content[: len(content) * i // 20] for i in range(20)]
    for position in rng.integers(0, len(content), 150):
        damaged.append(content[:position] + bytes([content[position] ^ 0x20]) + content[position + 1 :])
    for bad in damaged:
        (tmp_path / "bad.npz").write_bytes(bad)
        try:
            assert_equal(SampleSet.load(tmp_path / "bad.npz"), samples)  # a byte that means nothing
        except UserError as error:
            assert "damaged" in str(error) or "format" in str(error)
            refused += 1
    assert refused > 100


def test_a_full_disk_leaves_the_old_file(tmp_path):
    make({"seed": 0}).save(tmp_path / "s.npz")
    (tmp_path / "s.npz.unfinished").symlink_to("/dev/full")
    with pytest.raises(UserError, match="no space left"):
        make({"seed": 1}).save(tmp_path / "s.npz")
    assert SampleSet.load(tmp_path / "s.npz").meta == {"seed": 0}


@pytest.mark.parametrize(
    "change",
    [
        {"program": np.full((7, 40), 10**6, np.int32)},
        {"program": np.zeros((7, 40), np.int32)},  # task 3's samples at task 0's program
        {"verdicts": dataclasses.replace(make().judged(), fits=np.zeros(3, bool))},
        {"verdicts": dataclasses.replace(make().judged(), fits=np.zeros(len(make().task)))},
        {"tokens": np.zeros(3, np.int32)},
        {"finished": np.zeros((7, 40))},
        {"task_ids": np.array(["a"], object)},
    ],
)
def test_inconsistent_columns(change):
    with pytest.raises(ValueError, match="not a consistent sample set"):
        dataclasses.replace(make(), **change)


def test_verdicts_by_themselves(tmp_path):
    samples = make()
    unjudged = dataclasses.replace(samples, verdicts=None)
    unjudged.save(tmp_path / "s.npz")
    assert_equal(SampleSet.load(tmp_path / "s.npz"), unjudged)
    samples.judged().save(tmp_path / "v.npz")
    assert_equal(SampleSet.load(tmp_path / "s.npz", tmp_path / "v.npz"), samples)
    with pytest.raises(UserError, match="not judged"):
        assert unjudged.fits is None
    (tmp_path / "v.npz").write_bytes((tmp_path / "v.npz").read_bytes()[:-9])
    with pytest.raises(UserError, match=r"the verdicts in .* are damaged .* judge them again"):
        SampleSet.load(tmp_path / "s.npz", tmp_path / "v.npz")
    with pytest.raises(UserError, match=r"no verdicts at .* judges them"):
        SampleSet.load(tmp_path / "s.npz", tmp_path / "none.npz")
