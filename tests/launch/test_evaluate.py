"""A generator restored from its checkpoint, and what is refused. The random one's curve is flat at zero."""

from __future__ import annotations

import shutil

import pytest

from tests.tiny_study import NANO, overrides


@pytest.fixture(scope="module")
def evaluated(study, model_dir, run_all, tmp_path_factory):
    """Name -> how the program ended."""
    workdir, _ = study
    elsewhere = shutil.copytree(model_dir, tmp_path_factory.mktemp("moved") / "model")
    stages = workdir / "stages"
    moved = shutil.copytree(stages / "v1/adapter", tmp_path_factory.mktemp("checkpoint") / "adapter")
    v1 = [f"--checkpoint={stages}/v1/adapter", "--samples=8"]
    commands = {
        "v1": [*v1, "--bank=easy", "--k=1,2,4"],
        "gen_v0": [f"--checkpoint={stages}/gen_v0", "--samples=8", "--bank=hard", "--k=4"],
        "theta0": ["--checkpoint=none", "--samples=8", "--bank=hard", "--k=4", *overrides(model_dir)],
        "no bank": [*v1, "--bank=harder", "--k=1"],
        "no checkpoint": ["--checkpoint=nowhere", "--bank=easy"],
        "no flag": ["--bank=easy"],
        "critic": [f"--checkpoint={stages}/critic/adapter", "--samples=8", "--k=1"],
        "k is large": [*v1, "--k=1,9"],
        "k is zero": [*v1, "--k=0"],
        "k is no number": [*v1, "--k=1,many"],
        "k is empty": [*v1, "--k="],
        "field": [*v1, "--config.modle.dir=x"],
        "samples": [f"--checkpoint={moved}", "--samples=0"],
        "moved": [f"--checkpoint={moved}", "--samples=8", "--k=1", f"--config.model.dir={elsewhere}"],
        "model is gone": [f"--checkpoint={moved}", "--samples=8", "--k=1", "--config.model.dir=nowhere"],
    }
    flags = [["launch.evaluate", f"--config={NANO}", *arguments] for arguments in commands.values()]
    results = run_all(*flags[:-2])
    hidden = model_dir.rename(model_dir.with_name("hidden"))  # for the last two
    try:
        results += run_all(*flags[-2:])
    finally:
        hidden.rename(model_dir)
    return dict(zip(commands, results, strict=True))


@pytest.mark.parametrize(
    "name, bank, ks",
    [("v1", "easy", (1, 2, 4)), ("gen_v0", "hard", (4,)), ("theta0", "hard", (4,)), ("moved", "hard", (1,))],
)
def test_prints_the_curve(evaluated, name, bank, ks):
    result = evaluated[name]
    assert result.code == 0, result.stderr
    title, head, *rows = result.stdout.splitlines()
    shown = "v1" if name == "moved" else name
    assert title == f"{shown} on {bank}: 4 tasks, 8 samples a task, split seed 1234"
    assert head.split() == ["k", "pass@k", "visible-fit@k"]
    assert [row.split() for row in rows] == [[str(k), *"0.0 +- 0.0 0.0 +- 0.0".split()] for k in ks]


@pytest.mark.parametrize(
    "name, message",
    [
        ("no bank", "unknown bank 'harder'; did you mean 'hard'?"),
        ("no checkpoint", "no checkpoint in nowhere: give a directory that training wrote"),
        ("no flag", "--checkpoint is missing: give the adapter's directory, or 'none' for the base model"),
        ("critic", "is a critic's, which answers no task: give a generator's"),
        ("k is large", "--k=1,9: give whole numbers from 1 to --samples=8"),
        ("k is zero", "--k=0: give whole numbers from 1 to --samples=8"),
        ("k is no number", "--k=1,many: give whole numbers from 1 to --samples=8"),
        ("k is empty", "--k=: give whole numbers from 1 to --samples=8"),
        ("field", "unknown config field 'modle.dir'; did you mean 'model.dir'?"),
        ("samples", "flag --samples=0"),
        ("model is gone", "holds the base model that v1 was trained on"),
    ],
)
def test_a_mistake_is_one_line(evaluated, name, message):
    result = evaluated[name]
    assert (result.code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert message in result.stderr
