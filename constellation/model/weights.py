"""The parameters of a model of either kind: Hugging Face's or a GGUF file (see `port`), or a ported one.

A ported one holds the small files of its Hugging Face directory, and the quantised weights as Orbax arrays:
`weights/` one array a leaf, int4 as two a byte, and `weights.json`, written last, says what they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from aqt.jax.v2.aqt_tensor import QTensor
from jax.sharding import Mesh

from constellation import checkpoints
from constellation.model import port
from constellation.model.config import ModelConfig, read_fields
from constellation.model.decoder import Params
from constellation.model.gguf_file import GgufFile, is_gguf
from constellation.model.mesh import make_mesh, put
from constellation.model.quantize import Leaf, Nibbles, qtensor, unpack
from constellation.runtime.errors import UserError
from constellation.runtime.files import copy_files, disk_full_is_user_error, write_atomically

WEIGHTS, MANIFEST = "weights", "weights.json"


def load_params(
    directory: str | Path,
    config: ModelConfig,
    dtype: jax.typing.DTypeLike,
    quantization: str = "",
    mesh: Mesh | None = None,
) -> Params:
    """Reads the weights leaf by leaf, each put on its devices (one by default) as it comes.

    Args:
        dtype: of the dense weights and of the scales.
        quantization: as for `Quantization.parse`.

    Raises:
        UserError: as `read_leaves`.
    """
    mesh = mesh or make_mesh()
    params: Params = {"layers": {}}
    for name, leaf in read_leaves(directory, config, dtype, quantization):
        on_device = put(name, leaf, mesh)
        place = params["layers"] if name.startswith("layers/") else params
        place[name.removeprefix("layers/")] = unpack(on_device) if isinstance(leaf, Nibbles) else on_device
    return params


def read_leaves(
    directory: str | Path, config: ModelConfig, dtype: jax.typing.DTypeLike, quantization: str = ""
) -> Iterator[tuple[str, Leaf]]:
    """The weights leaf by leaf, on the host, as `port.leaves` yields them.

    Raises:
        UserError: as `port.leaves`; a damaged array; a ported directory of another dtype or quantisation.
    """
    directory, dtype = Path(directory), jnp.dtype(dtype)
    if is_ported(directory):
        return _ported_leaves(directory, read_manifest(directory, dtype.name, quantization))
    return port.leaves(directory, config, dtype, quantization)


def check_weights(directory: str | Path, config: ModelConfig, dtype: str, quantization: str = "") -> None:
    """Refuses what `load_params` refuses, without reading the weights.

    Raises:
        UserError: as `load_params`.
    """
    directory = Path(directory)
    if not is_ported(directory):
        return port.check_weights(directory, config, quantization)
    arrays = read_manifest(directory, dtype, quantization)["arrays"]
    if missing := [part for part in arrays if not (directory / WEIGHTS / part).is_dir()]:
        raise UserError(f"{directory / WEIGHTS} lacks {', '.join(missing)}: port the model again")


def is_ported(directory: Path) -> bool:
    """Whether a directory was written by `write_ported`, to its end."""
    return (directory / MANIFEST).exists()


def write_ported(
    source: Path,
    small_files: Iterable[str],
    directory: Path,
    leaves: Iterable[tuple[str, Leaf]],
    described: dict[str, Any],
) -> None:
    """Writes a ported model, leaf by leaf.

    Args:
        source: the Hugging Face directory, of which the `small_files` that exist are copied, or a GGUF file.
        leaves: of `port.leaves`.
        described: quantization, dtype, and the hash of the model.

    Raises:
        UserError: the directory holds something else or a whole model already, or the disk is full.
    """
    found = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if is_ported(directory) or not found <= {WEIGHTS, *small_files}:
        raise UserError(f"{directory} is not empty: give another --out")
    directory.mkdir(parents=True, exist_ok=True)
    with disk_full_is_user_error(directory):
        copy_small_files(source, small_files, directory)
    digests: dict[str, str] = {}
    for name, leaf in leaves:
        for part, array in _parts(name, leaf).items():
            checkpoints.save_array(directory / WEIGHTS / part, array)
            digests[part] = _digest(array)
    manifest = json.dumps(described | {"arrays": digests}, indent=2) + "\n"
    write_atomically(directory / MANIFEST, lambda file: file.write(manifest.encode()))


def copy_small_files(source: Path, names: Iterable[str], directory: Path) -> None:
    """Copies those that a model has of these files; those of a GGUF file are made of its metadata."""
    if not is_gguf(source):
        return copy_files(source, names, directory)
    file = GgufFile(source)
    file.tokenizer().save_pretrained(directory)
    made = {
        "config.json": read_fields(source),
        "generation_config.json": {"eos_token_id": file.stop_ids()},
    }
    for name in made.keys() & set(names):
        (directory / name).write_text(json.dumps(made[name], indent=2) + "\n", encoding="utf-8")


def read_manifest(directory: Path, dtype: str, quantization: str) -> dict[str, Any]:
    """The manifest that `write_ported` wrote: what it was told of the model, and the digests of its arrays.

    Raises:
        UserError: a damaged manifest, or a model of another dtype or quantisation.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        stored = {"quantization": manifest["quantization"], "dtype": manifest["dtype"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: port the model again") from None
    for field, wanted in (("quantization", quantization), ("dtype", dtype)):
        if stored[field] != wanted:
            raise UserError(
                f"{directory} was ported with {field} {stored[field]!r}, not {wanted!r}: "
                f"set model.{field} = {stored[field]!r}, or give the Hugging Face directory"
            )
    return manifest


def _ported_leaves(directory: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, Leaf]]:
    """Yields what `port.leaves` does, from a ported directory."""
    parts: dict[str, list[str]] = {}
    for part in manifest["arrays"]:
        parts.setdefault(part.partition(".")[0], []).append(part)
    for name, group in parts.items():
        arrays = {part.partition(".")[2]: _load(directory, part, manifest["arrays"][part]) for part in group}
        if "nibbles" in arrays:
            yield name, Nibbles(arrays["nibbles"], arrays["scale"])
        elif "int8" in arrays:
            yield name, qtensor(arrays["int8"], arrays["scale"])
        else:
            yield name, arrays[""]


def _parts(name: str, leaf: Leaf) -> dict[str, np.ndarray]:
    """The arrays of a leaf, by their place in `weights/`."""
    if isinstance(leaf, Nibbles):
        return {f"{name}.{part}": np.asarray(array) for part, array in leaf._asdict().items()}
    if isinstance(leaf, QTensor):
        leaf = jax.tree.map(np.asarray, leaf)
        return {f"{name}.int8": leaf.qvalue, f"{name}.scale": leaf.scale[0]}
    return {name: np.asarray(leaf)}


def _load(directory: Path, part: str, digest: str) -> np.ndarray:
    array = checkpoints.load_array(directory / WEIGHTS / part)
    if _digest(array) != digest:
        raise UserError(f"{directory / WEIGHTS / part} is damaged: port the model again")
    return array


def _digest(array: np.ndarray) -> str:
    content = hashlib.blake2b(f"{array.dtype} {array.shape}".encode(), digest_size=16)
    content.update(np.ascontiguousarray(array).view(np.uint8).data)
    return content.hexdigest()
