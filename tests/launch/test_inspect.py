"""A task's whole way, printed from a finished study."""

from __future__ import annotations

import re
import shutil

import pytest

from constellation.domains.task import read_tasks, split


@pytest.fixture(scope="module")
def inspected(study, run_all, tmp_path_factory):
    workdir, _ = study
    task = read_tasks(workdir / "stages/bank_easy/tasks.jsonl")[3]
    running = shutil.copytree(workdir, tmp_path_factory.mktemp("running") / "study")
    stages = running / "stages"
    shutil.move(stages / "samples_v1_easy_1234", stages / "samples_v1_easy_1234.partial")
    commands = {
        "number": (workdir, "easy:3"),
        "id": (workdir, task.id),
        "signature": (workdir, task.signature),
        "running": (running, "easy:3"),
        "no such number": (workdir, "easy:4"),
        "no such bank": (workdir, "eazy:0"),
        "no such workdir": ("nowhere", "easy:0"),
    }
    flags = [["launch.inspect", f"--workdir={where}", f"--task={what}"] for where, what in commands.values()]
    return task, dict(zip(commands, run_all(*flags), strict=True))


def test_shows_examples_and_every_models_candidates(inspected):
    task, results = inspected
    result = results["number"]
    assert (result.code, result.stderr) == (0, "")
    assert f"secret program  {task.program}\n" in result.stdout
    visible, held_out = split(task, 1234)
    for label, examples in (("visible", visible), ("held out", held_out)):
        lines = re.findall(rf"^  {label} +(.*)$", result.stdout, re.MULTILINE)
        assert [line.split(" -> ")[0] for line in lines] == [f'"{e.inputs[0]}"' for e in examples]
    models = re.findall(r"^(\w+): \d+ of 8 samples generalise, \d+ distinct", result.stdout, re.MULTILINE)
    assert models == ["theta0", "gen_v0", "v1"]


@pytest.mark.parametrize("name", ["id", "signature"])
def test_a_task_by_another_name(inspected, name):
    _, results = inspected
    assert results[name].stdout == results["number"].stdout


def test_a_study_that_still_runs(inspected):
    _, results = inspected
    assert results["running"].code == 0 and "gen_v0: " in results["running"].stdout
    assert "v1: " not in results["running"].stdout


@pytest.mark.parametrize(
    "name, message",
    [
        ("no such number", "no task 'easy:4': give <bank>:<0..3> with a bank of easy, hard, withheld"),
        ("no such bank", "no task 'eazy:0'"),
        ("no such workdir", "unknown stage in nowhere: 'bank_easy'"),
    ],
)
def test_a_mistake_is_one_line(inspected, name, message):
    _, results = inspected
    result = results[name]
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1
