"""Runs a whole study, or continues one, and ends with <workdir>/report.html and <workdir>/findings.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from launch import common

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def main(config: ConfigDict, workdir: str) -> None:
    """Runs the study."""
    from constellation.experiments import star_study

    report = star_study.run(config, workdir)
    print(f"report: {report}")


if __name__ == "__main__":
    common.run(main, config="configs/nano.py", workdir="runs/nano")
