"""The command of the study: what it leaves, and what it refuses before it leaves anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from constellation.evaluation.curves import PASS
from constellation.evaluation.entries import rows_of
from tests.tiny_study import write_tiny_model


def test_a_study_ends_with_a_report(study):
    """With random weights no sample generalises: the rounds' and the critic's empty pools are results."""
    workdir, result = study
    assert result.stdout.splitlines()[-1] == f"report: {workdir}/report.html"
    assert "updates, " in result.stderr and "samples, " in result.stderr  # progress, with its rate
    assert "<html" in (workdir / "report.html").read_text()
    findings = json.loads((workdir / "findings.json").read_text())
    assert set(findings["findings"]) == {"critic_gain", "crossover", "deceleration"}
    passed = rows_of(findings).where(quantity=PASS)
    assert passed.values("bank") == ["easy", "hard", "withheld"]
    assert passed.where(bank="hard").values("models") == [("theta0",), ("gen_v0",), ("v1",)]
    assert {stage["name"]: stage["kept"] for stage in findings["facts"]["training"]["stages"]} == {
        "gen_v0": 8,
        "v1": 0,
        "critic": 0,
    }
    assert list(workdir.glob("*.png"))


def break_model(directory: Path, how: str) -> None:
    """Damages a model's directory."""
    weights, config = directory / "model.safetensors", directory / "config.json"
    if how == "missing weights":
        weights.unlink()
    elif how == "truncated weights":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "other architecture":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"model_type": "mistral"}))
    elif how == "another shape":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_size": 48}))
    elif how == "larger tokenizer":
        tokenizer = json.loads((directory / "tokenizer.json").read_text())
        tokenizer["model"]["vocab"]["superfluous"] = 99_999
        (directory / "tokenizer.json").write_text(json.dumps(tokenizer))
    elif how == "no such directory":
        shutil.rmtree(directory)


MESSAGES = {
    "missing weights": "holds no model.safetensors",
    "truncated weights": "model.safetensors is damaged or cut short",
    "other architecture": "model_type is 'mistral', and what is implemented is qwen3, qwen2, llama",
    "another shape": "the weights do not match config.json",
    "larger tokenizer": "use the tokenizer that belongs to the model",
    "no such directory": "model.dir must be a Hugging Face model directory",
}


@pytest.fixture(scope="module")
def mistakes(study, run_all, experiment, tmp_path_factory):
    """Mistake -> how the program ended; whether the workdir is as it was; a workdir that was not there."""
    workdir, _ = study
    fresh = tmp_path_factory.mktemp("fresh") / "workdir"
    flags = {
        "unknown field": ["--config.star.rnds=2"],
        "unknown flag": ["--wrkdir=x"],
        "unknown config": ["--config=configs/nani.py"],
        "not allowed": ["--config.star.restart=v1"],
        "no coordinator": ["--processes=2"],
    }
    for how in MESSAGES:
        directory = write_tiny_model(tmp_path_factory.mktemp("broken"))
        break_model(directory, how)
        flags[how] = [f"--config.model.dir={directory}"]
    before = contents(workdir)
    commands = [experiment(where, *mistake) for mistake in flags.values() for where in (workdir, fresh)]
    changed, *results = run_all(experiment(workdir, "--config.star.keep=2"), *commands)
    ended = {name: results[2 * i : 2 * i + 2] for i, name in enumerate(flags)} | {"changed field": [changed]}
    return ended, before == contents(workdir), fresh


def contents(workdir: Path) -> dict[str, bytes]:
    files = [path for path in workdir.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize(
    "name, message",
    [
        ("unknown field", "unknown config field 'star.rnds'; did you mean 'star.rounds'?"),
        ("unknown flag", "unknown flag '--wrkdir'; did you mean '--workdir'?"),
        ("unknown config", "unknown config file 'configs/nani.py'"),
        ("not allowed", "config.star.restart = 'v1' must be one of theta0, gen_v0, continue"),
        ("no coordinator", "give --coordinator=<host:port>, too"),
        *MESSAGES.items(),
    ],
)
def test_a_mistake_is_one_line_and_leaves_the_workdir_as_it_was(mistakes, name, message):
    ended, untouched, fresh = mistakes
    for result in ended[name]:
        assert (result.code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
        assert message in result.stderr
    assert untouched and not fresh.exists()


def test_a_changed_field_is_refused_by_name(mistakes):
    ended, untouched, _ = mistakes
    (result,) = ended["changed field"]
    error = result.stderr.splitlines()[-1]  # a commit in between is warned of before
    assert result.code == 2 and error.startswith("error: ") and "star.keep: 1 -> 2" in error
    assert untouched
