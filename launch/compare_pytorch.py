"""Holds this implementation against transformers, peft and torch on one checkpoint; exits 1 if they differ.

    python -m launch.compare_pytorch --model_dir=constellation/assets/nano

Prints what was measured beside its tolerance. A model whose float32 weights exceed 4 GiB is compared layer by
layer, streamed from the disk, and in bfloat16. Needs third_party/requirements.txt.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings

from absl import flags

from constellation.errors import UserError
from launch import common

MODEL_DIR = flags.DEFINE_string(
    "model_dir", "constellation/assets/nano", "model directory, in Hugging Face's format"
)
FAILED = 1


def main() -> None:
    """Prints the table."""
    if missing := [name for name in ("torch", "peft") if importlib.util.find_spec(name) is None]:
        raise UserError(f"{' and '.join(missing)} missing: pip install -r third_party/requirements.txt")

    import jax
    from transformers.utils import logging

    from constellation.comparison import report

    # Libraries' notes are not the program's output.
    warnings.simplefilter("ignore", FutureWarning)
    logging.disable_progress_bar()

    # A GPU may otherwise round the factors of float32 products to fewer bits.
    jax.config.update("jax_default_matmul_precision", "highest")
    if not report.run(MODEL_DIR.value):
        sys.exit(FAILED)


if __name__ == "__main__":
    common.run(main)
