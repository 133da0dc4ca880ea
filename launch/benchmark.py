"""Measures speed beside transformers and peft, in one run: sampling, the LoRA update, task synthesis.

--part=quantization: what rounding to four bits costs, beside NF4.
--part=int4_product: the ways of multiplying by int4, at the shapes of a model's config.json.

Needs third_party/requirements.txt. Run it alone: a second busy process slows everything, and unevenly.
"""

from __future__ import annotations

from absl import flags

from launch import common

MODEL_DIR = flags.DEFINE_string(
    "model_dir", "constellation/assets/nano", "model directory, in Hugging Face's format"
)
PARTS = flags.DEFINE_multi_enum(
    "part",
    ["tasks", "sampling", "update"],
    ["tasks", "sampling", "update", "quantization", "int4_product"],
    "what to measure; may be repeated",
)
GROUP = flags.DEFINE_integer(
    "group", 32, "inputs that share an int4 scale, for --part=quantization and --part=int4_product", 1
)


def main() -> None:
    """Prints a table a part."""
    from constellation.benchmarks import report

    report.run(MODEL_DIR.value, PARTS.value, GROUP.value)


if __name__ == "__main__":
    common.run(main)
