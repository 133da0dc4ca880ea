"""Files that survive a kill: written whole or not at all, and on the disk before they are believed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from constellation.runtime.errors import UserError

# EFBIG is what a file-size limit (ulimit -f) answers; to the user it is a full disk all the same.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


_UNFINISHED = ".unfinished"


def fsync(path: Path) -> None:
    """Puts one file's bytes, or one directory's entries, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(root: Path) -> None:
    """`fsync` of everything under `root` and of `root` itself, children before their directory."""
    for directory, _, names in os.walk(root, topdown=False):
        for name in names:
            fsync(Path(directory, name))
        fsync(Path(directory))


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Creates or replaces `path` with what `write(file)` writes; a kill leaves the old bytes or the new.

    Raises:
        UserError: the disk is full; `path` is as it was.
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


def remove_unfinished(root: Path) -> None:
    """Removes what killed calls of `write_atomically` left under `root`."""
    for path in root.rglob(f"*{_UNFINISHED}"):
        path.unlink()


@contextmanager
def disk_full_is_user_error(where: Path) -> Iterator[None]:
    """Turns the errors of a full disk, whatever library met it, into a UserError that names the remedy."""
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        if _is_disk_full(error):
            raise UserError(
                f"no space left for {where}: free some and give the same command; what was finished is kept"
            ) from error
        raise


def _is_disk_full(error: Exception) -> bool:
    """By the error's number, or by its words where a library keeps no number."""
    if getattr(error, "errno", None) in _FULL:
        return True
    words = [os.strerror(code) for code in _FULL]  # TensorStore, under Orbax
    words.append("requested and")  # numpy: "<n> requested and <m> written"
    return any(word in str(error) for word in words)
