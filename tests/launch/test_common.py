"""What a user types, and the one line that answers."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from constellation.runtime.errors import UserError
from launch import common
from launch.common import load_config

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted(
    path.stem for path in (ROOT / "launch").glob("*.py") if path.stem not in ("__init__", "common")
)

CONFIG = """
from typing import Literal
from ml_collections import ConfigDict

def get_config(mode: Literal["", "quick", "tiny"] = ""):
    return ConfigDict(dict(
        seed=0, rate=1e-3, restart=True, banks=("easy", "hard"), ks=(1, 8), limit=None,
        model=dict(dir="assets/nano", rank=4 if mode == "quick" else 16),
    ))
"""
PROGRAM = '''
"""Prints what it was given."""
import os
from absl import flags
from launch import common

K = flags.DEFINE_integer("k", 3, "samples a task")

def main(config, workdir):
    if config.seed == 13:
        from constellation.runtime.errors import UserError
        raise UserError("seed 13 is\\nunlucky; take another")
    if config.seed == 14:
        raise KeyboardInterrupt
    if config.seed == 15:
        raise RuntimeError("a defect")
    print(config.model.dir, config.model.rank, config.seed, workdir, K.value)
    print(os.environ["JAX_COMPILATION_CACHE_DIR"])

if __name__ == "__main__":
    common.run(main, config="configs/nano.py", workdir="runs/nano")
'''


@pytest.fixture
def here(tmp_path) -> Path:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "nano.py").write_text(CONFIG)
    (tmp_path / "configs" / "broken.py").write_text("def get_config(:\n")
    (tmp_path / "configs" / "plain.py").write_text("def get_config():\n    return None\n")
    (tmp_path / "configs" / "empty.py").write_text("")
    (tmp_path / "configs" / "other.py").write_text(CONFIG.replace('banks=("easy", "hard"), ', ""))
    (tmp_path / "configs" / "misspelt.py").write_text(CONFIG.replace("rank=4", "rnk=8, rank=4"))
    (tmp_path / "program.py").write_text(PROGRAM.lstrip())
    return tmp_path


def run(here: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    # Where CI is set, transformers writes each warning twice.
    dropped = ("JAX_COMPILATION_CACHE_DIR", "CI")
    inherited = {name: value for name, value in os.environ.items() if name not in dropped}
    return subprocess.run(
        [sys.executable, "program.py", *arguments],
        cwd=here,
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ([], "assets/nano 16 0 runs/nano 3"),
        (["--config=configs/nano.py:quick"], "assets/nano 4 0 runs/nano 3"),
        (["--config.seed=7", "--config=configs/nano.py:quick", "--k=5"], "assets/nano 4 7 runs/nano 5"),
        (["--config", "configs/nano.py", "--config.model.dir=a=b", "--workdir", "x"], "a=b 16 0 x 3"),
        (["-config.seed=1", "--config.seed=2"], "assets/nano 16 2 runs/nano 3"),
    ],
)
def test_flags_and_configs(here, arguments, expected):
    result = run(here, *arguments)
    assert (result.returncode, result.stdout.splitlines()[0], result.stderr) == (0, expected, "")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config.modle.dir=x"], "unknown config field 'modle.dir'; did you mean 'model.dir'?"),
        (["--config.model.dri=x"], "unknown config field 'model.dri'; did you mean 'model.dir'?"),
        (["--config.seed.x=1"], "unknown config field 'seed.x'; did you mean 'seed'?"),
        (
            ["--config.zzzz=1"],
            "unknown config field 'zzzz'; known: banks, ks, limit, model.dir, model.rank, ",
        ),
        (["--config.model=x"], "config field 'model' is a section; set one of model.dir, model.rank"),
        (["--config.seed=abc"], "--config.seed=abc: expected a value like 0"),
        (["--config.seed=1.5"], "--config.seed=1.5: expected a value like 0"),
        (["--config.rate=nan"], "--config.rate=nan: expected a value like 0.001"),
        (["--config.restart=perhaps"], "--config.restart=perhaps: expected a value like True"),
        (["--config.ks=1,x"], "--config.ks=1,x: expected a value like (1, 8)"),
        (["--config.seed"], "--config.seed has no value; write --config.seed=<value>"),
        (["--config.seed", "3"], "unexpected argument '3'"),
        (["--confg=configs/nano.py"], "unknown flag '--confg'; did you mean '--config'?"),
        (["--wrokdir=x"], "unknown flag '--wrokdir'; did you mean '--workdir'?"),
        (["--qqq"], "unknown flag '--qqq'; known: "),
        (["--k=many"], "flag --k=many: invalid literal"),
        (["extra"], "unexpected argument 'extra'"),
        (
            ["--config=configs/nanoo.py"],
            "unknown config file 'configs/nanoo.py'; did you mean 'configs/nano.py'?",
        ),
        (["--config=nowhere/x.py"], "unknown config file 'nowhere/x.py'"),
        (["--config=configs"], "unknown config file 'configs'"),
        (
            ["--config=configs/nano.py:quik"],
            "unknown mode 'quik' of configs/nano.py; its modes: quick, tiny\n",
        ),
        (["--config=configs/nano.py:"], "unknown mode '' of configs/nano.py; its modes: quick, tiny\n"),
        (
            ["--config=configs/plain.py:quick"],
            "unknown mode 'quick' of configs/plain.py; it has none; give it without ':quick'\n",
        ),
        (["--config=configs/broken.py"], "configs/broken.py is not Python: line 1: "),
        (["--config=configs/empty.py"], "configs/empty.py defines no get_config()"),
        (
            ["--config=configs/other.py"],
            "configs/other.py lacks the field 'banks': this program takes a config like configs/nano.py",
        ),
        (
            ["--config=configs/misspelt.py"],
            "unknown field of configs/misspelt.py: 'model.rnk'; did you mean 'model.rank'?",
        ),
        (["--config.seed=13"], "seed 13 is unlucky; take another"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(here, arguments, message):
    result = run(here, *arguments)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_an_interrupt_is_no_traceback(here):
    result = run(here, "--config.seed=14")
    assert (result.returncode, result.stderr) == (130, "interrupted; the same command continues\n")


def test_a_defect_keeps_its_traceback(here):
    result = run(here, "--config.seed=15")
    assert (
        result.returncode == 1 and "RuntimeError: a defect" in result.stderr and "Traceback" in result.stderr
    )


WITHOUT_PYTORCH = """
import sys
sys.modules["torch"] = None  # not found

def main():
    import transformers
    transformers.logging.get_logger("transformers").warning("another warning")

"""


def test_that_pytorch_is_not_installed_is_no_warning(here):
    (here / "program.py").write_text(WITHOUT_PYTORCH + "main()\n")
    bare = run(here)
    assert "PyTorch was not found" in bare.stderr and "another warning" in bare.stderr
    (here / "program.py").write_text(WITHOUT_PYTORCH + "from launch import common\ncommon.run(main)\n")
    assert run(here).stderr == "[transformers] another warning\n"


def test_help(here):
    result = run(here, "--help")
    assert result.returncode == 0 and result.stderr == ""
    assert result.stdout.startswith("Prints what it was given.")
    assert all(
        text in result.stdout for text in ("--config", "--workdir", "--k", "samples a task", "runs/nano")
    )


@pytest.mark.parametrize("own, expected", [("", "/caches/constellation/xla"), ("/mine", "/mine")])
def test_compilation_cache_is_the_users(here, own, expected):
    settings = {"XDG_CACHE_HOME": "/caches"} | ({"JAX_COMPILATION_CACHE_DIR": own} if own else {})
    assert run(here, **settings).stdout.splitlines()[1] == expected


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("", "--xla_a=1 --xla_b=false"),
        ("--xla_b=true", "--xla_b=true --xla_a=1"),
        ("--xla_bc=1  --xla_a", "--xla_bc=1 --xla_a --xla_b=false"),
    ],
)
def test_xla_flags_are_added_to_the_users(own: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", own)
    common.add_xla_flags("--xla_a=1", "--xla_b=false")
    assert os.environ["XLA_FLAGS"] == expected


@pytest.mark.parametrize(
    "override, field, expected",
    [
        ("--config.seed=7", "seed", 7),
        ("--config.rate=3", "rate", 3.0),
        ("--config.restart=False", "restart", False),
        ("--config.restart=true", "restart", True),
        ("--config.banks=hard", "banks", ("hard",)),
        ("--config.banks=('hard', 'withheld')", "banks", ("hard", "withheld")),
        ("--config.ks=1,2,4", "ks", (1, 2, 4)),
        ("--config.ks=()", "ks", ()),
        ("--config.limit=5", "limit", 5),
        ("--config.model.dir=", "model.dir", ""),
    ],
)
def test_overrides_have_the_type_of_their_field(here, override, field, expected):
    config = load_config(str(here / "configs/nano.py"), [override])
    for name in field.split("."):
        config = config[name]
    assert config == expected and type(config) is type(expected)


def test_a_loaded_config_takes_no_new_fields(here):
    config = load_config(str(here / "configs/nano.py"))
    with pytest.raises((AttributeError, KeyError)):
        config.sede = 1
    with pytest.raises(UserError, match="did you mean 'seed'"):
        load_config(str(here / "configs/nano.py"), ["--config.sede=1"])


def cpu_seconds() -> float:
    """CPU time of finished child processes: unlike the wall clock, the same on a busy machine."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_of_every_program_answers_at_once(program):
    before = cpu_seconds()
    command = [sys.executable, "-m", f"launch.{program}", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "flags:" in result.stdout
    assert cpu_seconds() - before < 1.0


@pytest.mark.parametrize("program", PROGRAMS)
def test_importing_a_program_imports_nothing_heavy(program):
    heavy = "{'jax', 'flax', 'orbax', 'torch', 'transformers', 'matplotlib', 'scipy'}"
    code = f"import sys, launch.{program}; sys.exit(' '.join({heavy} & set(sys.modules)) or None)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("memory", "budget", "share"),
    [
        ("24576\n", 22.0, "0.9167"),
        ("81920\n24576\n", 12.0, "0.5000"),
        ("24576\n", 0.0, None),
        (None, 22.0, None),
    ],
)
def test_the_gpus_allocator_is_held_to_the_budget(
    memory: str | None, budget: float, share: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "")
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION")
    if memory is not None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\nprintf '{memory}'\n")
        program.chmod(0o755)
    common.hold_gpu_memory(budget)
    assert os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION") == share
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    common.hold_gpu_memory(22.0)
    assert os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.5"  # the user's own
