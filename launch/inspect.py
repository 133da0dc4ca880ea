"""Shows one task's whole way through a finished study: examples, candidates, verdicts, the critic's pick.

    python -m launch.inspect --workdir=runs/nano --task=hard:17

--task is <bank>:<number from 0>, or a task's id.
"""

from __future__ import annotations

from absl import flags

from launch import common

TRAJECTORY = flags.DEFINE_integer("trajectory", 0, "whose candidates to show, from 0", lower_bound=0)
TASK = flags.DEFINE_string("task", "hard:0", "<bank>:<number>, or a task's id")


def main(workdir: str) -> None:
    """Prints the task."""
    from constellation.experiments.inspect import inspect_task

    inspect_task(workdir, TASK.value, TRAJECTORY.value)


if __name__ == "__main__":
    common.run(main, workdir="runs/nano")
