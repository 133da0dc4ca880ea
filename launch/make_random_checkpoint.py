"""Writes a model directory with random weights, in the exact layout of a published model.

    python -m launch.make_random_checkpoint --size=4B --out=runs/random_4b

For loading, memory and speed at full size without a download; --layers=2 makes a slice of real widths.
"""

from __future__ import annotations

import json
from pathlib import Path

from absl import flags

from constellation.runtime.errors import UserError
from launch import common

SIZE = flags.DEFINE_string(
    "size",
    "4B",
    "published model: 0.6B, 1.7B, 4B, 4B-2507 or 8B of Qwen3, or Qwen2.5-1.5B, Llama-3.2-1B, Gemma-2-2B or "
    "Gemma-3-1B",
)
CONFIG_JSON = flags.DEFINE_string("config_json", None, "a config.json to follow instead of --size")
LAYERS = flags.DEFINE_integer("layers", None, "how many layers, if not all", lower_bound=1)
OUT = flags.DEFINE_string("out", None, "directory to write")
SEED = flags.DEFINE_integer("seed", 0, "seed of the weights", lower_bound=0)


def main() -> None:
    """Writes the directory."""
    from third_party.random_model import published_fields, with_layers, write_random_checkpoint

    [out] = common.required("the directory to write", out=OUT.value)
    if CONFIG_JSON.value is None:
        fields = published_fields(SIZE.value, LAYERS.value)
    else:
        try:
            fields = json.loads(Path(CONFIG_JSON.value).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"--config_json={CONFIG_JSON.value} is not readable as JSON ({error})") from None
        if not isinstance(fields, dict):
            raise UserError(f"--config_json={CONFIG_JSON.value} is no JSON object: give a config.json")
        if LAYERS.value:
            fields = with_layers(fields, LAYERS.value)
    write_random_checkpoint(out, fields, _corpus(), SEED.value)
    print(f"{out}: {sum(file.stat().st_size for file in out.iterdir()):,} bytes")


def _corpus() -> list[str]:
    """Prompts and programs of the domain: what the tokenizer's merges are learnt from."""
    from constellation.domains.task import split
    from constellation.domains.trapdoor import DOMAIN as trapdoor

    tasks = trapdoor.training_tasks("warm_start", 256, max_atoms=3)
    prompts = [message["content"] for task in tasks for message in trapdoor.messages(split(task, 0))]
    return prompts + [task.program for task in tasks]


if __name__ == "__main__":
    common.run(main)
