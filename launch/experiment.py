"""Runs a whole study, or continues one, and ends with <workdir>/report.html and <workdir>/findings.json.

At its end it prints the findings and the table of pass@k.

On several hosts the same command is started on each with --coordinator=<host of process 0>:<port>,
--processes=<how many> and its own --process=<number from 0>; config.mesh spans the devices of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from constellation.runtime.errors import UserError
from launch import common

if TYPE_CHECKING:
    from ml_collections import ConfigDict


COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "host:port of process 0, if there are several processes"
)
PROCESSES = flags.DEFINE_integer("processes", 1, "how many processes run the study", lower_bound=1)
PROCESS = flags.DEFINE_integer("process", 0, "the number of this process, from 0", lower_bound=0)


def main(config: ConfigDict, workdir: str) -> None:
    """Runs the study."""
    common.hold_gpu_memory(config.memory.budget_gib)
    if COORDINATOR.value is None and (PROCESSES.value, PROCESS.value) != (1, 0):
        raise UserError("--processes and --process need a coordinator: give --coordinator=<host:port>, too")
    if COORDINATOR.value is not None:
        from constellation.runtime.distributed import join

        join(COORDINATOR.value, PROCESSES.value, PROCESS.value)
    from constellation.evaluation.summary import summary

    if "peers" in config:
        from constellation.experiments.peers.run import run_peers

        report = run_peers(config, workdir)
    else:
        from constellation.experiments.run import run

        report = run(config, workdir)
    print(f"\n{summary(report.parent)}\n\nreport: {report}")


if __name__ == "__main__":
    common.run(main, config="configs/nano.py", workdir="runs/nano", peers=True)
