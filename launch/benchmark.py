"""Measures speed against transformers and peft, in one run: sampling, the LoRA update, task synthesis.

    python -m launch.benchmark --config=configs/qwen3_4b.py --random_weights

measures the model of a config at its full size, on the device there is: prefill, decoding and the LoRA update
against transformers, peft and torch.compile, with peak memory and shares of what the device can do. Without a
GPU, --layers=2 ends in minutes. Sizes that are not given are chosen for the device.

Without --config it is the model in --model_dir, by default the nano model, and
--part=quantization: what rounding to four bits costs, against NF4.
--part=int4_product: the ways of multiplying by int4, at the shapes of a model's config.json.
--part=trajectories: what eight trajectories cost as one program, as multiples of one alone.

Needs third_party/requirements.txt. Run it alone: a second busy process slows everything, and unevenly.
"""

from __future__ import annotations

from typing import Any

from absl import flags
from ml_collections import ConfigDict

from constellation.runtime.errors import UserError
from launch import common

ALONE = ["tasks", "quantization", "int4_product", "trajectories"]  # parts without --config only
MODEL_DIR = flags.DEFINE_string(
    "model_dir", "constellation/assets/nano", "model directory, in Hugging Face's format"
)
PARTS = flags.DEFINE_multi_enum(
    "part",
    None,
    ["sampling", "update", *ALONE],
    "what to measure; may be repeated; by default sampling and update, and without --config tasks",
)
GROUP = flags.DEFINE_integer(
    "group", 32, "inputs that share an int4 scale, for --part=quantization and --part=int4_product", 1
)
RANDOM_WEIGHTS = flags.DEFINE_bool(
    "random_weights", False, "with --config: no weights are read; without its model.dir, shapes are the 4B's"
)
LAYERS = flags.DEFINE_integer("layers", None, "with --random_weights: how many layers, if not all", 1)
REFERENCES = flags.DEFINE_bool("references", True, "with --config: measure transformers and peft, too")
OUT = flags.DEFINE_string("out", None, "file for the measurements as JSON")
SAMPLES = flags.DEFINE_list("samples", None, "with --config: numbers of samples decoded side by side")
SIZES = [
    flags.DEFINE_integer(name, None, f"with --config: {text}", 1)
    for name, text in {
        "shared_tokens": "tokens that all prompts begin with",
        "own_tokens": "tokens of each prompt behind its shared beginning",
        "answer_tokens": "tokens of every answer",
        "tasks": "prompts that we sample in one run; the references sample one",
        "rows": "sequences of an update",
        "micro_batch": "sequences of an update that are differentiated at a time",
        "repeats": "timed runs, of which the fastest counts",
    }.items()
]


def main(config: ConfigDict | None) -> None:
    """Prints a table a part."""
    if config is None:
        from third_party.benchmarks import report

        report.run(MODEL_DIR.value, PARTS.value or ["tasks", "sampling", "update"], GROUP.value, OUT.value)
        return
    parts = PARTS.value or ["sampling", "update"]
    for part in parts:
        if part in ALONE:
            raise UserError(f"--part={part} measures --model_dir: leave out --config")
    given: dict[str, Any] = {size.name: size.value for size in SIZES if size.value is not None}
    if SAMPLES.value is not None:
        if not all(text.strip().isdecimal() for text in SAMPLES.value):
            raise UserError(f"--samples={','.join(SAMPLES.value)}: give numbers, as --samples=1,8,64")
        given["samples"] = tuple(map(int, SAMPLES.value))
    from third_party.benchmarks import full_size

    full_size.run(config, parts, RANDOM_WEIGHTS.value, LAYERS.value, REFERENCES.value, given, OUT.value)


if __name__ == "__main__":
    common.run(main, config="")
