"""Writing whole or not at all; a full disk as the kernel tells it, and as libraries pass it on."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from constellation.runtime.errors import UserError
from constellation.runtime.files import (
    disk_full_is_user_error,
    fsync_tree,
    remove_unfinished,
    write_atomically,
)


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "file"
    for content in (b"old", b"new"):
        write_atomically(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_what_fails_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fails(file) -> None:
        file.write(b"half")
        raise KeyError("half-way")

    with pytest.raises(KeyError):
        write_atomically(path, fails)
    assert path.read_bytes() == b"old"
    remove_unfinished(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_fsync_tree_reaches_everything(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("")
    reached = []
    fsync_tree(tmp_path, reached.append)
    assert reached == [tmp_path / "a/b/file", tmp_path / "a/b", tmp_path / "a", tmp_path]


def test_device_full(tmp_path):
    with pytest.raises(UserError, match="no space left for"), disk_full_is_user_error(tmp_path):
        Path("/dev/full").write_bytes(b"x")


def save_safetensors(path, array) -> None:
    save_file({"array": array}, path)


@pytest.mark.parametrize("save", [np.save, np.savez, save_safetensors])
def test_at_the_file_size_limit(tmp_path, save):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, hard))
    try:
        with pytest.raises(UserError, match="no space left for"), disk_full_is_user_error(tmp_path):
            save(tmp_path / "array", np.zeros(1 << 17))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "error", [FileNotFoundError(2, "No such file"), ValueError("RESOURCE_EXHAUSTED: memory")]
)
def test_other_errors_pass(tmp_path, error):
    with pytest.raises(type(error)), disk_full_is_user_error(tmp_path):
        raise error
