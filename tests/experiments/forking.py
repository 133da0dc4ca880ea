"""Work in a forked process, which may be killed."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from jax._src import xla_bridge


def forked(log: Path, work: Callable[[], None]) -> int:
    """The exit code of a child that does the work, negative for a signal; what it prints goes to the log.

    A device must not have been used yet: its threads do not live on in the child.
    """
    assert not xla_bridge.backends_are_initialized()
    child = os.fork()
    if child == 0:
        opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(opened, 1)
        os.dup2(opened, 2)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
