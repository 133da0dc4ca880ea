"""Redraws a finished study's report from its stored stages, after the evaluation's code has changed, say.

    python -m launch.report --workdir=runs/nano

Nothing is sampled or trained: neither the model nor JAX is needed.
"""

from __future__ import annotations

from launch import common


def main(workdir: str) -> None:
    """Writes report.html, findings.json and the figures anew."""
    from constellation.experiments.star_study import redraw

    print(f"report: {redraw(workdir)}")


if __name__ == "__main__":
    common.run(main, workdir="runs/nano")
