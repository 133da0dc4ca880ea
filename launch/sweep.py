"""Runs a grid of studies, or continues one, and ends with one table of all its cells.

    python -m launch.sweep --config=configs/nano_grid.py --workdir=runs/nano_grid

The grid stands in the config, and a workdir takes no other. Every cell's study is in <workdir>/cells; the end
is <workdir>/sweep.html, sweep.json and sweep.png. The exit code is 1 if a cell failed: the same command tries
it again.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from launch import common

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ml_collections import ConfigDict

    from constellation.evaluation.sweep import Cell


def main(config: ConfigDict, workdir: str) -> None:
    """Runs the sweep."""
    common.hold_gpu_memory(config.study.memory.budget_gib)
    from constellation.experiments import sweep

    finish(sweep.run(config, workdir), workdir)


def finish(cells: Sequence[Cell], workdir: str) -> None:
    """Says where the table is and which cells failed; exits with 1 if any did."""
    print(f"sweep: {workdir}/sweep.html")
    failed = [cell.name for cell in cells if cell.failure is not None]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    common.run(main, config="configs/nano_grid.py", workdir="runs/nano_grid")
