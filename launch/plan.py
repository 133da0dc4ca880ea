"""Prints what a study takes before it runs: memory by parts, batch sizes that fit, hours a stage.

    python -m launch.plan --config=configs/qwen3_4b.py --config.model.dir=<directory>

Needs the directory's config.json, generation_config.json and tokenizer, but no weights and no GPU. A config
that cannot fit memory.budget_gib is refused with what it would take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from launch import common

if TYPE_CHECKING:
    from ml_collections import ConfigDict

PLATFORM = flags.DEFINE_enum("platform", "gpu", ["gpu", "cpu"], "what the study is to run on")
BANDWIDTH = flags.DEFINE_float("bandwidth", 500.0, "GB/s reached: by default half of a card's 1 TB/s", 1e-3)
TFLOPS = flags.DEFINE_float("tflops", 60.0, "TFLOP/s reached: by default 40 % of a card's 150", 1e-6)


def main(config: ConfigDict) -> None:
    """Prints the plan."""
    from constellation.experiments.peers.plan import print_peers_plan
    from constellation.experiments.plan import Speed, print_plan

    speed = Speed(1e9 * BANDWIDTH.value, 1e12 * TFLOPS.value)
    (print_peers_plan if "peers" in config else print_plan)(config, PLATFORM.value, speed)


if __name__ == "__main__":
    common.run(main, config="configs/qwen3_4b.py", peers=True)
