"""Ports a Hugging Face directory once: quantised weights as Orbax arrays, and the small files next to them.

    python -m launch.port_weights --model_dir=<directory> --out=<directory> --quantization=int4:128

--config.model.dir then takes either directory, with the same quantization and dtype; the ported one is a
quarter of the size and is read without rounding again. Tensor by tensor: memory for a model in bfloat16 is
not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from absl import flags

from constellation.runtime.errors import UserError
from launch import common

if TYPE_CHECKING:
    from constellation.model.quantize import Leaf

MODEL_DIR = flags.DEFINE_string("model_dir", None, "Hugging Face directory")
OUT = flags.DEFINE_string("out", None, "directory to write")
QUANTIZATION = flags.DEFINE_string(
    "quantization", "int4:128", "'' (dense) or int4:<group or channel>[:clip][:int8_embedding]"
)
DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["bfloat16", "float32"], "dtype of norms, embedding, scales")


def main() -> None:
    """Writes the directory."""
    from constellation.model import port, weights
    from constellation.model.config import ModelConfig
    from constellation.model.decoder import layer_shapes
    from constellation.model.model import SMALL_FILES, check_model
    from constellation.runtime.progress import Progress

    source, out = common.required("both directories", model_dir=MODEL_DIR.value, out=OUT.value)
    if weights.is_ported(source):
        raise UserError(f"{source} is ported already")
    described = {"quantization": QUANTIZATION.value, "dtype": DTYPE.value}
    described["hash"] = check_model(source, QUANTIZATION.value, DTYPE.value)
    config = ModelConfig.from_dir(source)
    count = len(layer_shapes(config)) + 2 + (not config.tie_word_embeddings)
    with Progress("porting", count, "leaves") as progress:

        def counted() -> Iterator[tuple[str, Leaf]]:
            for leaf in port.leaves(source, config, DTYPE.value, QUANTIZATION.value):
                yield leaf
                progress.update()

        weights.write_ported(source, SMALL_FILES, out, counted(), described)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    print(f"{out}: {size / 2**30:.2f} GiB")


if __name__ == "__main__":
    common.run(main)
