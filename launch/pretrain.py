"""Trains a nano base and writes it in Hugging Face's format to <workdir>/model.

The same command continues a run that was killed, from its last checkpoint, to the same result.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from launch import common

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def main(config: ConfigDict, workdir: str) -> None:
    """Trains, resuming where a checkpoint is."""
    # Read when JAX is first imported. A batch is divided evenly among the devices.
    devices = math.gcd(config.batch_size, os.cpu_count() or 1)
    common.add_xla_flags(f"--xla_force_host_platform_device_count={devices}")
    from constellation.nano.pretraining import pretrain

    pretrain(config, workdir)


if __name__ == "__main__":
    common.run(main, config="configs/nano_pretrain.py", workdir="runs/nano_pretrain")
