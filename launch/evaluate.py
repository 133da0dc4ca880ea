"""Restores a trained generator from its checkpoint and prints its pass@k on a bank.

    python -m launch.evaluate --checkpoint=runs/nano/stages/v1/adapter --bank=hard --k=1,8,64

The checkpoint says which base model, prompts and sampling it was trained with; the base alone (theta0) is
evaluated with --checkpoint=none and the settings of --config.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from launch import common

if TYPE_CHECKING:
    from ml_collections import ConfigDict

CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "trained adapter: an Orbax or a peft directory; 'none' for the base"
)
BANK = flags.DEFINE_string("bank", "hard", "bank of tasks: easy, hard, withheld, tuning_easy or tuning_hard")
K = flags.DEFINE_list("k", ["1", "8", "64"], "the k of pass@k")
TRAJECTORY = flags.DEFINE_integer("trajectory", 0, "trajectory of the checkpoint, from 0", lower_bound=0)
SAMPLES = flags.DEFINE_integer("samples", 128, "samples a task, at least the largest k", lower_bound=1)


def main(config: ConfigDict) -> None:
    """Samples, judges and prints."""
    common.hold_gpu_memory(config.memory.budget_gib)
    from constellation.experiments.evaluate import evaluate_checkpoint

    evaluate_checkpoint(config, CHECKPOINT.value, BANK.value, K.value, SAMPLES.value, TRAJECTORY.value)


if __name__ == "__main__":
    common.run(main, config="configs/nano.py")
