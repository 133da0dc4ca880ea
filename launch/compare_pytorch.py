"""Holds this implementation against transformers, peft and torch on one checkpoint; exits 1 if they differ.

    python -m launch.compare_pytorch --model_dir=constellation/assets/nano

Prints what was measured with its tolerance. A model whose float32 weights exceed 4 GiB is compared layer by
layer, streamed from the disk, and in bfloat16. Needs third_party/requirements.txt.

    python -m launch.compare_pytorch --study --config=configs/nano.py --workdir=runs/compare_pytorch

compares what comes out: the config's base and gen_v0 sampled by either side, and a STaR round that either
side trains on samples of its own. A row is an interval of the difference of pass@k on tuning tasks; all rows
hold together with 95 %. What is finished in the workdir is not done again. The workdir of a study gives its
gen_v0; if that study sampled tuning tasks, --tasks has to be its tasks.bank_size.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from typing import TYPE_CHECKING

from absl import flags

from constellation.runtime.errors import UserError
from launch import common

if TYPE_CHECKING:
    from ml_collections import ConfigDict

MODEL_DIR = flags.DEFINE_string(
    "model_dir", "constellation/assets/nano", "model directory, in Hugging Face's format"
)
STUDY = flags.DEFINE_bool("study", False, "compare a self-training round of --config, in --workdir")
REPLICATES = flags.DEFINE_integer("replicates", 4, "with --study: how often all of it is repeated", 2)
TASKS = flags.DEFINE_integer("tasks", 100, "with --study: how many tuning tasks are sampled", 2)
SAMPLES = flags.DEFINE_integer("samples", 64, "with --study: samples of each task in each replicate", 64)
FAILED = 1


def main(config: ConfigDict, workdir: str) -> None:
    """Prints the table."""
    if missing := [name for name in ("torch", "peft") if importlib.util.find_spec(name) is None]:
        raise UserError(f"{' and '.join(missing)} missing: pip install -r third_party/requirements.txt")

    import jax
    from transformers.utils import logging

    # Libraries' notes are not the program's output.
    warnings.simplefilter("ignore", FutureWarning)
    logging.disable_progress_bar()

    # A GPU may otherwise round the factors of float32 products to fewer bits.
    jax.config.update("jax_default_matmul_precision", "highest")
    if STUDY.value:
        from third_party.comparison import study

        passed = study.run(config, workdir, study.Sizes(REPLICATES.value, TASKS.value, SAMPLES.value))
    else:
        from third_party.comparison import report

        passed = report.run(MODEL_DIR.value)
    if not passed:
        sys.exit(FAILED)


if __name__ == "__main__":
    common.run(main, config="configs/nano.py", workdir="runs/compare_pytorch")
