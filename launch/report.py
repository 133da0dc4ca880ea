"""Redraws a finished study's report, or a sweep's, after the evaluation's code has changed, say.

    python -m launch.report --workdir=runs/nano

A study's is made from its stored stages, a sweep's from the findings.json of its cells, which are studies in
<workdir>/cells. Nothing is sampled or trained: neither the model nor JAX is needed. The exit code is 1 if a
cell has no findings.
"""

from __future__ import annotations

import sys

from launch import common


def main(workdir: str) -> None:
    """Writes report.html, findings.json and the figures anew, or sweep.html, sweep.json and sweep.png."""
    from constellation.experiments import report, sweep

    if not sweep.is_sweep(workdir):
        print(f"report: {report.redraw(workdir)}")
        return
    missing = [cell.name for cell in sweep.redraw(workdir) if cell.results is None]
    print(f"report: {workdir}/sweep.html")
    if missing:
        print(f"without findings: {', '.join(missing)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    common.run(main, workdir="runs/nano")
