"""Files that survive a kill: written whole or not at all, and on the disk before they are believed."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from constellation.runtime.errors import UserError

# EFBIG is what a file-size limit (ulimit -f) answers; to the user it is a full disk all the same.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_UNFINISHED = ".unfinished"

_TICK = 20_000_000  # ns, above the kernel's
_HASHES: dict[tuple[int, ...], str] = {}  # of files by device, inode, size and time


def fsync(path: Path) -> None:
    """Puts one file's bytes, or one directory's entries, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(root: Path, fsync: Callable[[Path], object] = fsync) -> None:
    """`fsync` of everything under `root` and of `root` itself, children before their directory."""
    for directory, _, names in os.walk(root, topdown=False):
        for name in names:
            fsync(Path(directory, name))
        fsync(Path(directory))


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Creates or replaces `path` with what `write(file)` writes; a kill leaves the old bytes or the new.

    Raises UserError: the disk is full; `path` is as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + _UNFINISHED)
    with disk_full_is_user_error(path.parent):
        with open(unfinished, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
        fsync(path.parent)


def copy_files(source: Path, names: Iterable[str], directory: Path) -> None:
    """Copies those of the files that exist."""
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, directory / name)


@contextmanager
def new_directory(path: Path) -> Iterator[None]:
    """Makes a directory for the files that are written in this context; empties it again if that fails.

    Raises UserError: there is something already, or the disk is full.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UserError(f"{path} is not empty: give another --out")
    path.mkdir(parents=True, exist_ok=True)
    with disk_full_is_user_error(path):
        try:
            yield
        except BaseException:
            for file in path.iterdir():  # or the same command would be refused
                file.unlink()
            raise


def content_hash(path: Path) -> str:
    """32 hexadecimal digits that name a file's bytes; read once a process while the file stays as it is."""
    stat = path.stat()
    version = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if version not in _HASHES:
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        # Within a tick of the clock a file can change and keep its time.
        if time.time_ns() - stat.st_mtime_ns < _TICK:
            return content
        _HASHES[version] = content
    return _HASHES[version]


def remove_unfinished(root: Path) -> None:
    """Removes what killed calls of `write_atomically` left under `root`."""
    for path in root.rglob(f"*{_UNFINISHED}"):
        path.unlink()


@contextmanager
def disk_full_is_user_error(where: Path) -> Iterator[None]:
    """Turns the errors of a full disk, whatever library met it, into a UserError that names the remedy."""
    try:
        yield
    except Exception as error:
        if _is_disk_full(error):
            raise UserError(
                f"no space left for {where}: free some and give the same command; what was finished is kept"
            ) from error
        raise


def _is_disk_full(error: Exception) -> bool:
    """By the error's number, or by its words where a library keeps no number."""
    if getattr(error, "errno", None) in _FULL:
        return True
    words = [os.strerror(code) for code in _FULL]  # safetensors, and TensorStore under Orbax
    words.append("requested and")  # numpy: "<n> requested and <m> written"
    return any(word in str(error) for word in words)


def link(source: Path, target: Path) -> None:
    """A second name for a file that no one writes to any more; a copy where the file system has no links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
