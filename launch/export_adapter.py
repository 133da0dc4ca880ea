"""Writes a trained adapter in peft's format.

    python -m launch.export_adapter --checkpoint=runs/nano/stages/v1/adapter --out=<directory>

`peft.PeftModel.from_pretrained(base, <directory>)` loads it, and so does launch.evaluate --checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from launch import common

if TYPE_CHECKING:
    from ml_collections import ConfigDict

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "Orbax directory of a trained adapter")
TRAJECTORY = flags.DEFINE_integer("trajectory", 0, "trajectory of the checkpoint, from 0", lower_bound=0)
OUT = flags.DEFINE_string("out", None, "directory to write")


def main(config: ConfigDict) -> None:
    """Restores and writes."""
    from constellation.experiments.evaluate import own_config
    from constellation.model.config import ModelConfig
    from constellation.model.peft_format import save_peft
    from constellation.selftraining.finetune import load_adapter

    checkpoint, out = common.required("both directories", checkpoint=CHECKPOINT.value, out=OUT.value)
    adapter, metadata = load_adapter(checkpoint, TRAJECTORY.value)
    base = own_config(metadata, config).model.dir
    save_peft(out, ModelConfig.from_dir(base), adapter, base)
    print(f"{metadata['name']}, an adapter of {base}: {out}")


if __name__ == "__main__":
    common.run(main, config="configs/nano.py")
