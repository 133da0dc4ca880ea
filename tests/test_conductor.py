"""Kills at every moment, extensions, refusals, and a full disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from constellation.conductor import (
    Conductor,
    FinishedStages,
    PlannedStages,
    Stage,
    canonical_json,
    digest,
    finished_stage,
    plain,
)
from constellation.runtime.errors import UserError

ROOT = Path(__file__).parents[1]
PROVENANCE = {"commit": "c0", "device": "abacus"}
conductor = partial(Conductor, provenance=lambda: PROVENANCE)


def writes(text: str, log: list[str] | None = None):
    """A stage's `run` that writes one file, and notes that it ran."""

    def run(path: Path) -> None:
        if log is not None:
            log.append(text)
        (path / "result.txt").write_text(text)

    return run


def contents(workdir: Path) -> dict[str, bytes]:
    """Every file of the workdir but how long things took."""
    files = {}
    for path in sorted(workdir.rglob("*")):
        if path.is_file() and path.name != ".lock":
            content = path.read_bytes()
            if path.name == "stage.json":
                record = json.loads(content)
                record.pop("seconds")
                content = json.dumps(record).encode()
            files[str(path.relative_to(workdir))] = content
    return files


def test_runs_once_and_returns_what_is_there(tmp_path):
    log: list[str] = []
    for _ in range(2):
        with conductor(tmp_path) as stages:
            first = stages.stage("first", fields={"seed": 1}, version=1, run=writes("1", log))
            second = stages.stage("second", fields={}, inputs=[first], version=1, run=writes("2", log))
    assert log == ["1", "2"]
    assert (second.path / "result.txt").read_text() == "2"
    assert second == finished_stage(tmp_path, "second")


def test_record_says_what_made_the_stage(tmp_path):
    with conductor(tmp_path) as stages:
        first = stages.stage("first", fields={"a": {"b": (1, 2)}}, version=3, run=writes("1"))
        second = stages.stage("second", fields={}, inputs=[first], version=1, run=writes("2"))
    record = json.loads((first.path / "stage.json").read_text())
    assert record["recipe"] == {"name": "first", "fields": {"a": {"b": [1, 2]}}, "inputs": {}, "version": 3}
    assert record["digest"] == first.digest and record["provenance"] == PROVENANCE and record["seconds"] >= 0
    assert record["content"] == first.content
    described = subprocess.run(
        ["b2sum", "-l", "128", first.path / "result.txt"], capture_output=True, text=True
    )
    assert record["files"] == {"result.txt": described.stdout.split()[0]}
    read = json.loads((second.path / "stage.json").read_text())
    assert read["recipe"]["inputs"] == {"first": first.digest} and read["made_of"] == {"first": first.content}


def test_digest_depends_on_every_part_of_the_recipe(tmp_path):
    def made(fields, inputs, version, name="s") -> str:
        workdir = tmp_path / digest([fields, [x.digest for x in inputs], version, name])
        with conductor(workdir) as stages:
            return stages.stage(name, fields=fields, inputs=inputs, version=version, run=writes("")).digest

    a, b = Stage("x", "0" * 32, tmp_path), Stage("x", "1" * 32, tmp_path)
    recipes = [
        ({"f": 1}, [a], 1),
        ({"f": 2}, [a], 1),
        ({"f": 1}, [b], 1),
        ({"f": 1}, [], 1),
        ({"f": 1}, [a], 2),
    ]
    digests = [made(*recipe) for recipe in recipes] + [made(*recipes[0], name="t")]
    assert len(set(digests)) == len(digests)
    with conductor(tmp_path / "again") as stages:
        again = stages.stage("s", fields=ConfigDict({"f": 1}), inputs=[a], version=1, run=writes(""))
    assert again.digest == digests[0]


def test_more_stages_extend_a_workdir(tmp_path):
    def rounds(n: int) -> list[str]:
        log: list[str] = []
        with conductor(tmp_path) as stages:
            inputs: list[Stage] = []
            for i in range(n):
                inputs = [
                    stages.stage(f"round-{i}", fields={}, inputs=inputs, version=1, run=writes(str(i), log))
                ]
            stages.stage(
                "report", fields={"n": n}, inputs=inputs, version=1, run=writes(f"of {n}", log), derived=True
            )
        return log

    assert rounds(2) == ["0", "1", "of 2"]
    assert rounds(5) == ["2", "3", "4", "of 5"]
    assert rounds(5) == []
    assert (tmp_path / "stages/report/result.txt").read_text() == "of 5"
    assert sorted(path.name for path in (tmp_path / "stages").iterdir()) == [
        "report",
        *(f"round-{i}" for i in range(5)),
    ]


def test_a_changed_field_is_refused_by_its_name(tmp_path):
    fields = {"warm_start": {"updates": 300, "rate": 1e-3, "old": True}, "seed": 0}
    with conductor(tmp_path) as stages:
        stages.stage("base", fields=fields, version=1, run=writes("1"))
    before = contents(tmp_path)
    changed = {"warm_start": {"updates": 400, "rate": 1e-3, "new": "x"}, "seed": 0}
    with conductor(tmp_path) as stages, pytest.raises(UserError) as error:
        stages.stage("base", fields=changed, version=2, run=writes("2"))
    message = str(error.value)
    assert "warm_start.updates: 300 -> 400" in message
    assert "warm_start.old: True -> (absent)" in message and "warm_start.new: (absent) -> x" in message
    assert "version: 1 -> 2" in message and "--workdir" in message and "set them back" in message
    assert "rate" not in message and "seed" not in message
    assert contents(tmp_path) == before


def test_a_changed_input_is_refused(tmp_path):
    with conductor(tmp_path) as stages:
        stages.stage(
            "s", fields={}, inputs=[Stage("samples", "a" * 32, tmp_path)], version=1, run=writes("1")
        )
        with pytest.raises(UserError, match=f"input samples: {'a' * 32} -> {'b' * 32}"):
            stages.stage(
                "s", fields={}, inputs=[Stage("samples", "b" * 32, tmp_path)], version=1, run=writes("1")
            )


def test_work_of_another_recipe_is_not_continued(tmp_path):
    def dies(path: Path) -> None:
        (path / "half.txt").write_text("of seed 0")
        raise RuntimeError("dies")

    with conductor(tmp_path) as stages:
        with pytest.raises(RuntimeError, match="dies"):
            stages.stage("s", fields={"seed": 0}, version=1, run=dies)
        stage = stages.stage("s", fields={"seed": 1}, version=1, run=writes("1"))
    assert sorted(path.name for path in stage.path.iterdir()) == ["result.txt", "stage.json"]


def test_two_conductors_in_one_workdir(tmp_path):
    with conductor(tmp_path):
        with pytest.raises(UserError, match=f"in use by process {os.getpid()}"):
            conductor(tmp_path)
        # The refusal must not have let the lock go.
        with pytest.raises(UserError, match="in use"):
            conductor(tmp_path)
    conductor(tmp_path).close()


def test_a_workdir_that_cannot_be_one(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="--workdir"):
        conductor(tmp_path / "file")


def test_disk_full_keeps_what_was_finished(tmp_path):
    def fills_the_disk(path: Path) -> None:
        (path / "big").symlink_to("/dev/full")
        (path / "big").write_bytes(bytes(1 << 16))

    with conductor(tmp_path) as stages:
        first = stages.stage("first", fields={}, version=1, run=writes("1"))
        with pytest.raises(UserError, match=r"no space left for .*give the same command"):
            stages.stage("second", fields={}, inputs=[first], version=1, run=fills_the_disk)
    (tmp_path / "stages/second.partial/big").unlink()
    log: list[str] = []
    with conductor(tmp_path) as stages:
        again = stages.stage("first", fields={}, version=1, run=writes("1", log))
        second = stages.stage("second", fields={}, inputs=[again], version=1, run=writes("2", log))
    assert log == ["2"] and (second.path / "result.txt").read_text() == "2"


@pytest.mark.parametrize("damage", ["negated", "truncated", "removed", "below", "record", "record removed"])
def test_damage_is_told_with_its_remedy(tmp_path, damage):
    def run(path: Path) -> None:
        np.save(path / "scores.npy", np.arange(4.0))
        (path / "adapter").mkdir()
        (path / "adapter" / "weights").write_bytes(bytes(1 << 20))

    with conductor(tmp_path) as stages:
        path = stages.stage("s", fields={}, version=1, run=run).path
    file = path / {"record": "stage.json", "below": "adapter/weights"}.get(damage.split()[0], "scores.npy")
    if "removed" in damage:
        file.unlink()
    elif damage == "negated":
        np.save(file, -np.load(file))
    elif damage == "below":
        file.write_bytes(bytes((1 << 20) - 1) + b"1")
    else:
        file.write_bytes(file.read_bytes()[:3])
    error = f"^{file} is damaged or missing: delete {path} and give the same command$"
    with conductor(tmp_path) as stages, pytest.raises(UserError, match=error):
        stages.stage("s", fields={}, version=1, run=run)
    for read in (FinishedStages(tmp_path).stage, lambda name: finished_stage(tmp_path, name)):
        known = "known: none" if damage == "record removed" else error
        with pytest.raises(UserError, match=known):
            read("s")


def test_a_file_is_read_once_a_process_unless_it_changes(tmp_path):
    def ask() -> None:
        with conductor(tmp_path) as stages:
            stages.stage("s", fields={}, version=1, run=writes("result"))

    ask()
    file = tmp_path / "stages/s/result.txt"
    time.sleep(0.05)  # until the clock says that it is left alone
    ask()
    written = file.stat().st_mtime_ns
    file.write_text("tluser")
    os.utime(file, ns=(written, written))
    ask()  # a second reading would have found it
    other = python(
        "from sys import argv\nfrom constellation.conductor import *\nfinished_stage(argv[1], 's')",
        str(tmp_path),
        stderr=subprocess.PIPE,
    )
    assert f"{file} is damaged or missing" in other.communicate(timeout=60)[1]
    file.write_text("tluser")
    with pytest.raises(UserError, match="damaged"):
        ask()


def test_a_stage_without_hashes_is_of_another_version(tmp_path):
    with conductor(tmp_path) as stages:
        path = stages.stage("s", fields={}, version=1, run=writes("result")).path
    record = json.loads((path / "stage.json").read_text())
    del record["content"], record["made_of"]
    record["files"] = {"result.txt": 6}
    (path / "stage.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"^{path} was made by another version .commit c0.*--workdir$"):
        finished_stage(tmp_path, "s")


def test_content_names_the_recipe_and_the_result_but_no_checkpoint(tmp_path):
    def content(text: str, checkpoint: str, fields: dict[str, int]) -> str:
        def run(path: Path) -> None:
            (path / "adapter").mkdir()
            (path / "adapter" / checkpoint).write_text(checkpoint)
            writes(text)(path)

        with conductor(tmp_path / digest([text, checkpoint, fields])) as stages:
            return stages.stage("s", fields=fields, version=1, run=run).content

    same, *others = (
        content(*made) for made in (("1", "x", {}), ("1", "y", {}), ("2", "x", {}), ("1", "x", {"f": 1}))
    )
    assert others[0] == same and len({same, *others}) == 3


def test_other_bytes_of_an_input_make_a_derived_stage_anew_and_are_warned_of(tmp_path, capsys):
    def run(text: str) -> tuple[list[str], str]:
        log: list[str] = []
        with conductor(tmp_path) as stages:
            first = stages.stage("first", fields={}, version=1, run=writes(text, log))
            for name, derived in (("second", False), ("report", True)):
                stages.stage(
                    name, fields={}, inputs=[first], version=1, run=writes(name, log), derived=derived
                )
        return log, capsys.readouterr().err

    assert run("1") == (["1", "second", "report"], "")
    before = finished_stage(tmp_path, "first").content
    shutil.rmtree(tmp_path / "stages/first")
    log, warning = run("2")
    after = finished_stage(tmp_path, "first").content
    assert log == ["2", "report"]
    assert warning == (
        f"warning: kept stage 'second' has another provenance: content of first: {before} -> {after}\n"
    )


def test_a_damaged_stage_of_a_sibling_is_not_linked(tmp_path):
    with conductor(tmp_path / "one") as stages:
        path = stages.stage("s", fields={}, version=1, run=writes("result")).path
    (path / "result.txt").write_text("tluser")
    with (
        conductor(tmp_path / "other", siblings=[tmp_path / "one"]) as stages,
        pytest.raises(UserError, match=f"{path}/result.txt is damaged.*delete {path} and"),
    ):
        stages.stage("s", fields={}, version=1, run=writes("result"))


def test_provenance_is_warned_of_once_a_difference(tmp_path, capsys):
    def run(**changed: str) -> str:
        with Conductor(tmp_path, provenance=lambda: PROVENANCE | changed) as stages:
            for name in ("a", "b"):
                stages.stage(name, fields={}, version=1, run=writes(name))
        return capsys.readouterr().err

    assert run() == ""
    assert run() == ""
    assert run(commit="c1") == "warning: kept stage 'a' has another provenance: commit: c0 -> c1\n"


def test_finished_stage_names_the_nearest(tmp_path):
    with conductor(tmp_path) as stages:
        stages.stage("gen_v0", fields={}, version=1, run=writes("1"))
    with pytest.raises(UserError, match="did you mean 'gen_v0'"):
        finished_stage(tmp_path, "gen_v00")
    with pytest.raises(UserError, match="known: none"):
        finished_stage(tmp_path / "nowhere", "gen_v0")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a.partial", "-a"])
def test_names_that_are_no_directory_of_ours(tmp_path, name):
    with conductor(tmp_path) as stages, pytest.raises(ValueError, match="not a stage name"):
        stages.stage(name, fields={}, version=1, run=writes("1"))


def test_canonical_json():
    section = ConfigDict({"b": (1, 2), "a": {"y": None, "x": 0.1, "w": True}})
    assert canonical_json(section) == '{"a":{"w":true,"x":0.1,"y":null},"b":[1,2]}'
    assert canonical_json({"b": 1, "a": 2}) == canonical_json({"a": 2, "b": 1})
    with pytest.raises(TypeError, match="not a plain config value"):
        plain({"f": len})


# A study of three stages; the stage 'long' goes on where a killed one stopped.
STUDY = """
import os, signal, sys
from pathlib import Path
from constellation.conductor import Conductor

def study(workdir, seed=0):
    def long(path):
        done = path / "done"
        for i in range(3):
            if not (done.exists() and len(done.read_text()) > i):
                with open(done, "a") as file:
                    file.write(str(i))
                tick()
    def copy(*stages):
        return lambda path: (path / "sum").write_text("".join((s.path / "done").read_text() for s in stages))
    with Conductor(workdir, provenance=dict) as run:
        first = run.stage("first", fields={}, version=1, run=lambda path: (path / "done").write_text("f"))
        second = run.stage("long", fields={}, inputs=[first], version=1, run=long)
        inputs = [first, second]
        run.stage("report", fields={"seed": seed}, inputs=inputs, version=1, run=copy(*inputs), derived=True)

def tick():
    pass
"""

# Kills the study with SIGKILL before and after its k-th step on the disk, for every k, and runs it again. The
# second time it starts from a finished workdir whose report has to be replaced. Forked from a process without
# JAX: some hundred runs in seconds.
KILL_EVERYWHERE = (
    STUDY
    + """
import itertools, json

os.fsync = lambda handle: None  # a kill, unlike a power cut, loses nothing that was written

def forked(function, *arguments):
    child = os.fork()
    if child == 0:
        sys.stdout = sys.stderr = open(os.devnull, "w")
        try:
            function(*arguments)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def killed_at(k, workdir, seed):
    global tick
    steps = itertools.count()
    def step():
        if next(steps) == k:
            os.kill(os.getpid(), signal.SIGKILL)
    def stepped(call):
        def wrapper(*arguments, **keywords):
            step()
            result = call(*arguments, **keywords)
            step()
            return result
        return wrapper
    tick = step
    for name in ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir"):
        setattr(os, name, stepped(getattr(os, name)))
    study(workdir, seed)

root = Path(sys.argv[1])
results = []
for seed in (0, 1):
    for k in itertools.count():
        workdir = root / f"{seed}-{k}"
        if seed == 1:
            assert forked(study, workdir, 0) == 0
        code = forked(killed_at, k, workdir, seed)
        results.append((str(workdir), code, forked(study, workdir, seed)))
        if code == 0:
            break
        assert code == -signal.SIGKILL, code
print(json.dumps(results))
"""
)


def python(program: str, *arguments: str, **keywords) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments], env=environment, text=True, **keywords
    )


def test_kill_at_every_step_on_the_disk(tmp_path):
    process = python(KILL_EVERYWHERE, str(tmp_path), stdout=subprocess.PIPE)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    results = json.loads(output)
    killed = [(workdir, again) for workdir, code, again in results if code != 0]
    assert len(killed) > 50
    finished = {
        seed: contents(Path(w))
        for seed, (w, code, _) in zip((0, 1), [r for r in results if r[1] == 0], strict=True)
    }
    assert finished[0]["stages/report/sum"] == b"f012"
    for workdir, again in killed:
        assert again == 0, workdir
        seed = int(Path(workdir).name[0])
        assert contents(Path(workdir)) == finished[seed], workdir


def test_killed_from_outside_in_a_long_stage(tmp_path):
    slow = STUDY + "import time\ndef tick(): print('tick', flush=True); time.sleep(30)\nstudy(sys.argv[1])\n"
    process = python(slow, str(tmp_path), stdout=subprocess.PIPE)
    assert process.stdout is not None
    while process.stdout.readline() != "tick\n":
        pass
    with pytest.raises(UserError, match=f"in use by process {process.pid}"):
        conductor(tmp_path)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    partial = tmp_path / "stages" / "long.partial"
    assert (partial / "done").read_text() == "0"
    begun = time.time_ns()
    assert (
        python(STUDY + "study(sys.argv[1])", str(tmp_path), stdout=subprocess.DEVNULL).wait(timeout=60) == 0
    )
    assert (tmp_path / "stages/long/done").read_text() == "012"
    assert (tmp_path / "stages/first/stage.json").stat().st_mtime_ns < begun
    assert (tmp_path / "stages/report/sum").read_text() == "f012"


def deep(path: Path) -> None:
    (path / "deep").mkdir()
    (path / "deep" / "file").write_text("content")


def must_not_run(path: Path) -> None:
    raise AssertionError(path)


def test_a_stage_of_the_same_recipe_is_taken_from_a_sibling(tmp_path):
    with conductor(tmp_path / "one") as one:
        made = one.stage("a", fields={"x": 1}, version=1, run=deep)
    siblings = [tmp_path / "nowhere", tmp_path / "one"]
    with conductor(tmp_path / "two", siblings) as two:
        taken = two.stage("a", fields={"x": 1}, version=1, run=must_not_run)
        own = two.stage("b", fields={"x": 1}, version=1, run=deep)
    assert (taken.digest, own.name) == (made.digest, "b")
    assert (taken.path / "deep/file").samefile(made.path / "deep/file")
    assert sorted(path.name for path in (tmp_path / "two/stages").iterdir()) == ["a", "b"]


def test_a_stage_of_another_recipe_or_unfinished_is_not_taken(tmp_path):
    with conductor(tmp_path / "one") as one:
        other = one.stage("a", fields={"x": 1}, version=1, run=deep)
    with conductor(tmp_path / "two", [tmp_path / "one"]) as two:
        own = two.stage("a", fields={"x": 2}, version=1, run=deep)
        assert not (own.path / "deep/file").samefile(other.path / "deep/file")
    (other.path / "stage.json").write_text(json.dumps({"digest": other.digest, "complete": False}))
    ran = []
    with conductor(tmp_path / "three", [tmp_path / "one"]) as three:
        three.stage("a", fields={"x": 1}, version=1, run=lambda path: ran.append(path))
    assert len(ran) == 1


def test_a_derived_stage_of_other_inputs_is_not_taken(tmp_path):
    def read(workdir: str, text: str, siblings: list[Path]) -> str:
        with conductor(tmp_path / workdir, siblings) as stages:
            first = stages.stage("first", fields={}, version=1, run=writes(text))
            second = stages.stage(
                "second", fields={}, inputs=[first], version=1, run=writes(f"of {text}"), derived=True
            )
            return (second.path / "result.txt").read_text()

    assert read("one", "1", []) == "of 1"
    first = tmp_path / "two/stages/first"
    assert read("two", "2", []) == "of 2"
    shutil.rmtree(tmp_path / "two/stages/second")
    assert first.exists() and read("two", "2", [tmp_path / "one"]) == "of 2"
    shutil.rmtree(tmp_path / "two")
    assert read("two", "2", [tmp_path / "one"]) == "of 1"  # both are taken


def test_a_plan_refuses_two_stages_of_one_name() -> None:
    with PlannedStages() as stages:
        stages.stage("s", fields={"x": 1}, version=1, run=must_not_run)
        stages.stage("s", fields={"x": 1}, version=1, run=must_not_run)
        with pytest.raises(ValueError, match="two stages are called s: x: 1 -> 2"):
            stages.stage("s", fields={"x": 2}, version=1, run=must_not_run)


def test_finished_stages_are_only_read(tmp_path):
    with conductor(tmp_path) as stages:  # and still holds the lock
        made = stages.stage("a", fields={"x": 1}, version=1, run=deep)
        with FinishedStages(tmp_path) as finished:
            assert finished.stage("a", fields={"x": 2}, version=2, run=must_not_run) == made
            with pytest.raises(UserError, match=r"unknown stage .*'b'"):
                finished.stage("b", fields={}, version=1, run=must_not_run)
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["a"]
