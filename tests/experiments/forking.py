"""Work in a forked process, which may be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jax._src import xla_bridge

from tests.tiny_study import ROOT


def killed_study(script: str, model_dir: Path, root: Path) -> tuple[list[Any], str]:
    """What a script, run on its own, says of its kills, and the log; the last run has to end well.

    The script is given the model and a directory for its studies; it prints its kills and the last exit code.
    """
    finished = subprocess.run(
        [sys.executable, "-c", script, str(model_dir), str(root)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    log = (root / "log").read_text() if (root / "log").exists() else ""
    assert finished.returncode == 0, finished.stderr + log
    kills, last = json.loads(finished.stdout)
    assert last == 0, log
    return kills, log


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
