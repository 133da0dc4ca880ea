"""Shards of the pretraining corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from constellation.domains.task import read_tasks
from constellation.domains.trapdoor.pretraining import PRETRAINING
from constellation.domains.trapdoor.signature import role_of
from constellation.nano.corpus import Corpus
from constellation.runtime.errors import UserError

MIXTURE = {"atoms4": 0.5, "wide": 0.3, "atoms6": 0.2}


def corpus(directory: Path, seed: int = 1, mixture: dict[str, float] | None = None) -> Corpus:
    return Corpus(directory, PRETRAINING.sources, mixture or MIXTURE, shard_size=12, seed=seed)


def test_a_shard_is_a_function_of_its_address(tmp_path: Path):
    texts = {}
    for name, index, made in (
        ("a", 0, corpus(tmp_path / "a")),
        ("same", 0, corpus(tmp_path / "same", mixture=dict(reversed(MIXTURE.items())))),
        ("seed", 0, corpus(tmp_path / "seed", seed=2)),
        ("index", 1, corpus(tmp_path / "index")),
        ("mixture", 0, corpus(tmp_path / "mixture", mixture={"atoms4": 1.0})),
    ):
        made.build(index)
        assert list(made.directory.iterdir()) == [made.path(index)]
        texts[name] = made.path(index).read_bytes()
    assert texts["a"] == texts.pop("same")
    assert len(set(texts.values())) == 4


def test_a_worker_makes_the_same_shards_and_missing_ones_alone(tmp_path: Path):
    ours, here = corpus(tmp_path / "shards"), corpus(tmp_path / "here")
    worker = list(ours.shards(0, 2))
    for index, tasks in enumerate(worker):
        here.build(index)
        assert read_tasks(here.path(index)) == tasks and len(tasks) == 12
        assert {(task.role, role_of(task.signature), task.structures) for task in tasks} == {
            ("pretraining", "pretraining", ())
        }
    # what exists is read; what is gone is made again
    kept, gone = ours.directory / "shard-0000.jsonl", ours.directory / "shard-0001.jsonl"
    kept.write_bytes(b"".join(kept.read_bytes().splitlines(keepends=True)[:5]))
    gone.unlink()
    assert list(ours.shards(0, 2)) == [worker[0][:5], worker[1]]
    assert list(ours.shards(1, 2)) == [worker[1]]
    assert list(ours.shards(2, 2)) == []


def test_an_unknown_source_is_a_user_error(tmp_path: Path):
    unknown = corpus(tmp_path, mixture={"atom4": 1.0})
    with pytest.raises(UserError, match="did you mean 'atoms4'"):
        unknown.build(0)
    assert not unknown.path(0).exists()
