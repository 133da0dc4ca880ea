"""A ported model: the small files of its Hugging Face directory, and its quantised weights as Orbax arrays.

`weights/` holds one array a leaf, int4 as two a byte; `weights.json`, written last, says what they are.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from aqt.jax.v2.aqt_tensor import QTensor

from constellation import checkpoints
from constellation.model.quantize import Leaf, Nibbles, table_of
from constellation.runtime.errors import UserError
from constellation.runtime.files import disk_full_is_user_error, write_atomically

WEIGHTS, MANIFEST = "weights", "weights.json"


def is_ported(directory: Path) -> bool:
    """Whether a directory was written by `write`, to its end."""
    return (directory / MANIFEST).exists()


def write(
    source: Path,
    small_files: Iterable[str],
    directory: Path,
    leaves: Iterable[tuple[str, Leaf]],
    described: dict[str, Any],
) -> None:
    """Writes a ported model, leaf by leaf.

    Args:
        source: the Hugging Face directory, of which `small_files` are copied, those that exist.
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
        for name in small_files:
            if (source / name).exists():
                shutil.copyfile(source / name, directory / name)
    digests: dict[str, str] = {}
    for name, leaf in leaves:
        for part, array in _parts(name, leaf).items():
            checkpoints.save_array(directory / WEIGHTS / part, array)
            digests[part] = _digest(array)
    manifest = json.dumps(described | {"arrays": digests}, indent=2) + "\n"
    write_atomically(directory / MANIFEST, lambda file: file.write(manifest.encode()))


def read_manifest(directory: Path, dtype: str, quantization: str) -> dict[str, Any]:
    """What `write` described, if it is what is asked for.

    Raises:
        UserError: a damaged manifest, or a model of another dtype or quantisation.
    """
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        stored = {"dtype": manifest["dtype"], "quantization": manifest["quantization"]}
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is damaged: port the model again") from None
    for field, wanted in (("quantization", quantization), ("dtype", dtype)):
        if stored[field] != wanted:
            raise UserError(
                f"{directory} was ported with {field} {stored[field]!r}, not {wanted!r}: "
                f"set model.{field} = {stored[field]!r}, or give the Hugging Face directory"
            )
    return manifest


def leaves(directory: Path, manifest: dict[str, Any]) -> Iterator[tuple[str, Leaf]]:
    """The leaves in `directory`, as `port.leaves` yields them.

    Raises:
        UserError: an array is missing or damaged.
    """
    parts: dict[str, list[str]] = {}
    for part in manifest["arrays"]:
        parts.setdefault(part.partition(".")[0], []).append(part)
    for name, group in parts.items():
        arrays = {part.partition(".")[2]: _load(directory, part, manifest["arrays"][part]) for part in group}
        if "nibbles" in arrays:
            yield name, Nibbles(arrays["nibbles"], arrays["scale"])
        elif "int8" in arrays:
            yield name, table_of(arrays["int8"], arrays["scale"])
        else:
            yield name, arrays[""]


def check(directory: Path, manifest: dict[str, Any]) -> None:
    """Refuses a directory that lacks an array, without reading them.

    Raises:
        UserError: names them.
    """
    missing = [part for part in manifest["arrays"] if not (directory / WEIGHTS / part).is_dir()]
    if missing:
        raise UserError(f"{directory / WEIGHTS} lacks {', '.join(missing)}: port the model again")


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
