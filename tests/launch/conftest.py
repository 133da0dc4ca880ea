"""A finished study of seconds, made by the programs themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.launch.forked import Result, launch
from tests.tiny_study import NANO, overrides, write_tiny_model


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def run_all(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[Result]]:
    """run_all(*commands): `python -m` of each, in a directory of their own."""

    def run(*commands: list[str]) -> list[Result]:
        return launch(*commands, cwd=tmp_path_factory.mktemp("cwd"))

    return run


@pytest.fixture(scope="session")
def experiment(model_dir: Path) -> Callable[..., list[str]]:
    """experiment(workdir, *flags): the command of the tiny study."""

    def command(workdir: Path, *flags: str) -> list[str]:
        return [
            "launch.experiment",
            f"--config={NANO}",
            f"--workdir={workdir}",
            *overrides(model_dir),
            *flags,
        ]

    return command


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory, run_all, experiment) -> tuple[Path, Result]:
    """The workdir, and how the program ended."""
    workdir = tmp_path_factory.mktemp("study")
    (result,) = run_all(experiment(workdir))
    assert result.code == 0, result.stderr
    return workdir, result
