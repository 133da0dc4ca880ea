"""Shards of the pretraining corpus."""

from __future__ import annotations

from pathlib import Path

import pytest

from constellation.domains.task import read_tasks
from constellation.domains.trapdoor.signature import role_of
from constellation.nano.corpus import build_shard, shards
from constellation.runtime.errors import UserError

MIXTURE = {"atoms4": 0.5, "wide": 0.3, "atoms6": 0.2}


def test_a_shard_is_a_function_of_its_address(tmp_path: Path):
    texts = {}
    for name, seed, index, mixture in (
        ("a", 1, 0, MIXTURE),
        ("same", 1, 0, dict(reversed(MIXTURE.items()))),
        ("seed", 2, 0, MIXTURE),
        ("index", 1, 1, MIXTURE),
        ("mixture", 1, 0, {"atoms4": 1.0}),
    ):
        build_shard(tmp_path / name, seed, index, 12, mixture)
        texts[name] = (tmp_path / name).read_bytes()
    assert texts["a"] == texts.pop("same")
    assert len(set(texts.values())) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "index", "mixture", "same", "seed"]


def test_a_worker_makes_the_same_shards_and_missing_ones_alone(tmp_path: Path):
    directory = tmp_path / "shards"
    worker = list(shards(directory, 1, 0, 2, 12, MIXTURE))
    for index, tasks in enumerate(worker):
        build_shard(tmp_path / "here", 1, index, 12, MIXTURE)
        assert read_tasks(tmp_path / "here") == tasks and len(tasks) == 12
        assert {(task.role, role_of(task.signature), task.structures) for task in tasks} == {
            ("pretraining", "pretraining", ())
        }
    # what exists is read; what is gone is made again
    kept, gone = directory / "shard-0000.jsonl", directory / "shard-0001.jsonl"
    kept.write_bytes(b"".join(kept.read_bytes().splitlines(keepends=True)[:5]))
    gone.unlink()
    assert list(shards(directory, 1, 0, 2, 12, MIXTURE)) == [worker[0][:5], worker[1]]
    assert list(shards(directory, 1, 1, 2, 12, MIXTURE)) == [worker[1]]
    assert list(shards(directory, 1, 2, 2, 12, MIXTURE)) == []


def test_an_unknown_source_is_a_user_error(tmp_path: Path):
    with pytest.raises(UserError, match="did you mean 'atoms4'"):
        build_shard(tmp_path / "shard", 1, 0, 3, {"atom4": 1.0})
    assert not (tmp_path / "shard").exists()
