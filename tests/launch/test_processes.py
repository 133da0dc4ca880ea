"""A study run by two processes together equals that of one; a kill leaves nothing that keeps them apart."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from tests.launch.forked import ROOT
from tests.tiny_study import overrides, write_tiny_model


def run(model: Path, workdir: Path, processes: int) -> None:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "launch.experiment", f"--workdir={workdir}"]
    fields = {"mesh__data": processes, "star__rounds": 0, "tasks__banks": "hard"}
    command += [*overrides(model, **fields), f"--processes={processes}"]
    if processes > 1:
        command.append(f"--coordinator={coordinator}")
    running = [
        subprocess.Popen([*command, f"--process={index}"], cwd=ROOT, stderr=subprocess.DEVNULL)
        for index in range(processes)
    ]
    assert [process.wait() for process in running] == [0] * processes


def found(workdir: Path) -> dict:
    """But for what differs by rounding, as losses do, and by run, as seconds do."""
    findings = json.loads((workdir / "findings.json").read_text())
    facts = {name: value for name, value in findings["facts"].items() if name != "training"}
    return {
        name: value for name, value in findings.items() if name not in ("config", "provenance")
    } | {"facts": facts}


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    model = write_tiny_model(tmp_path / "model")
    run(model, tmp_path / "one", 1)
    run(model, tmp_path / "two", 2)
    assert found(tmp_path / "two") == found(tmp_path / "two" / "process_1") == found(tmp_path / "one")
    # As if the second had been killed before it had ended two stages; the first loses none of its own.
    kept = tmp_path / "two" / "stages" / "gen_v0" / "stage.json"
    written = kept.stat().st_mtime_ns
    for stage in ("samples_gen_v0_hard_1234", "gen_v0"):
        shutil.rmtree(tmp_path / "two" / "process_1" / "stages" / stage)
    (tmp_path / "two" / "findings.json").unlink()
    run(model, tmp_path / "two", 2)
    assert found(tmp_path / "two") == found(tmp_path / "one")
    assert kept.stat().st_mtime_ns == written
