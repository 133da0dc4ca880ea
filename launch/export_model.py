"""Merges a trained adapter into its base and writes a Hugging Face directory.

    python -m launch.export_model --checkpoint=runs/nano/stages/v1/adapter --out=<directory>

`transformers.AutoModelForCausalLM.from_pretrained(<directory>)` then gives our logits: an int4 base is
multiplied out, as the study computed with it. Prints how far what was written is from base and adapter, as
the mean KL divergence of next tokens in prompts of a few tuning tasks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import flags

from launch import common

if TYPE_CHECKING:
    from ml_collections import ConfigDict

CHECKPOINT = flags.DEFINE_string("checkpoint", None, "trained adapter: an Orbax or a peft directory")
TRAJECTORY = flags.DEFINE_integer("trajectory", 0, "trajectory of the checkpoint, from 0", lower_bound=0)
OUT = flags.DEFINE_string("out", None, "directory to write")
DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "of the weights that are written")
DENSE_BASE = flags.DEFINE_bool("dense_base", False, "merge into the base as it was before quantisation")

PROMPTS = 4


def main(config: ConfigDict) -> None:
    """Restores, merges, writes and compares."""
    common.hold_gpu_memory(config.memory.budget_gib)
    import jax

    from constellation.domains.domain import load_domain
    from constellation.domains.task import split
    from constellation.experiments.config import load_base
    from constellation.experiments.evaluate import load_checkpoint
    from constellation.experiments.selection import TUNING
    from constellation.model.config import ModelConfig
    from constellation.model.export import divergence, prompt_logits, write_merged
    from constellation.model.model import load_model
    from constellation.model.weights import read_leaves

    jax.config.update("jax_default_matmul_precision", "highest")  # or a GPU would round to 10 bits
    checkpoint, out = common.required("both directories", checkpoint=CHECKPOINT.value, out=OUT.value)
    name, adapter, config = load_checkpoint(checkpoint, TRAJECTORY.value, config)
    domain, base = load_domain(config.domain), config.model
    # Before anything is written, whatever may be wrong with the base; and one model at a time in memory.
    model = load_base(config, domain)
    splits = [
        split(task, config.tasks.split_seed, config.tasks.visible)
        for task in domain.make_bank(TUNING, PROMPTS, config.tasks.seed)
    ]
    prompts = [model.chat(domain.messages(one)) for one in splits]
    ours = prompt_logits(model, adapter, prompts)
    del model
    quantization, dtype = ("", "float32") if DENSE_BASE.value else (base.quantization, base.dtype)
    leaves = read_leaves(base.dir, ModelConfig.from_dir(base.dir), dtype, quantization)
    write_merged(base.dir, out, leaves, adapter, DTYPE.value)
    distance = divergence(ours, prompt_logits(load_model(out), None, prompts))
    size = sum(file.stat().st_size for file in out.iterdir())
    print(
        f"{name} merged into {base.dir} ({quantization or 'dense'}): {out}, {size / 2**30:.3g} GiB, "
        f"KL {distance:.1e} nats a token"
    )


if __name__ == "__main__":
    common.run(main, config="configs/nano.py")
