"""Command lines run for real, in processes that share the seconds of importing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]

# Imports everything and computes nothing, as JAX's threads would not survive the fork.
SERVER = """
import json, os, runpy, sys, tempfile
from pathlib import Path
import constellation.experiments.evaluate, constellation.experiments.inspect
import constellation.nano.pretraining, constellation.experiments.run
import constellation.critic, constellation.experiments.plan, constellation.model.tokenizer
from jax._src import xla_bridge

assert not xla_bridge.backends_are_initialized()
results = []
for arguments in json.loads(sys.argv[1]):
    directory = Path(tempfile.mkdtemp())
    child = os.fork()
    if child == 0:
        for stream, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(directory / name, os.O_WRONLY | os.O_CREAT), stream)
        code = 1
        try:
            program, *sys.argv[1:] = arguments
            runpy.run_module(program, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as error:
            code = error.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    results.append([code, *((directory / name).read_text() for name in ("out", "err"))])
print(json.dumps(results))
"""


class Result(NamedTuple):
    """How a program ended."""

    code: int
    stdout: str
    stderr: str


def launch(*commands: list[str], cwd: Path) -> list[Result]:
    """Runs `python -m` for each command, [module, *arguments], one after the other.

    Args:
        commands: all of them.
        cwd: where they run.
    """
    finished = subprocess.run(
        [sys.executable, "-c", SERVER, json.dumps(commands)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    return [Result(*result) for result in json.loads(finished.stdout)]
