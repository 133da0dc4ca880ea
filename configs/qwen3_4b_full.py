"""configs/qwen3_4b.py with the replicates and controls of configs/nano_full.py.

    python -m launch.experiment --config=configs/qwen3_4b_full.py --workdir=runs/qwen3_4b_full \\
        --config.model.dir=<directory>

`launch.plan` says what it needs before anything runs; config.trajectories is what decides. It has not been
run.
"""

from ml_collections import ConfigDict

from configs import nano_full, qwen3_4b


def get_config() -> ConfigDict:
    """The configuration."""
    return nano_full.replicated(qwen3_4b.get_config())
