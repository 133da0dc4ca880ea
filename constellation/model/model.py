"""A model directory, loaded: everything that generation, training and scoring need of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from constellation.model.config import ModelConfig
from constellation.model.decoder import Params
from constellation.model.gguf_file import GgufFile, is_gguf
from constellation.model.lora import Adapter
from constellation.model.mesh import check_mesh, make_mesh
from constellation.model.port import weight_files
from constellation.model.weights import check_weights, is_ported, load_params, read_manifest
from constellation.runtime.errors import UserError

if TYPE_CHECKING:
    from constellation.model.tokenizer import Tokenizer

SMALL_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
)  # fmt: skip
DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A frozen base model; several can live in one process."""

    config: ModelConfig
    params: Params
    tokenizer: Tokenizer
    stop_ids: tuple[int, ...]  # each ends an answer; the first is the one that the chat template writes
    hash: str  # of everything that changes what the model computes
    dir: Path
    system: str = ""  # the system message of every conversation; none if empty
    thinking: bool = False  # whether answers begin with thoughts, where the template knows them
    mesh: Mesh = dataclasses.field(default_factory=make_mesh)  # where the parameters are

    def chat(self, messages: Sequence[Mapping[str, str]], thinking: bool | None = None) -> list[int]:
        """A conversation behind the system message as prompt ids, up to where the answer begins."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        enable = self.thinking if thinking is None else thinking
        return self.tokenizer.chat([*system, *messages], enable_thinking=enable)


@dataclasses.dataclass(frozen=True, eq=False)
class Generator:
    """What answers: R adapters on one frozen base, one for each trajectory. A critic is one, too."""

    model: Model
    adapters: Adapter | None = None  # [R, ...] as `lora.stack` makes them; None for the base itself, R = 1

    @property
    def trajectories(self) -> int:
        return 1 if self.adapters is None else len(jax.tree.leaves(self.adapters)[0])


def load_model(
    directory: str | Path,
    quantization: str = "",
    dtype: str = "float32",
    system: str = "",
    thinking: bool = False,
    mesh: Mesh | None = None,
    weights: bool = True,
) -> Model:
    """Loads a Hugging Face directory, or a ported one; on one device unless a mesh is given.

    Args:
        quantization: as for `Quantization.parse`.
        dtype: "float32" or "bfloat16", of the dense weights and the activations.
        weights: whether to read them; without, `params` is empty and the directory needs none.

    Raises:
        UserError: anything missing, damaged, of another architecture, or not fitting together.
    """
    directory, mesh = Path(directory), mesh or make_mesh()
    config, tokenizer, stop_ids = _read_small_files(directory, dtype)
    check_mesh(config, mesh)
    params = load_params(directory, config, jnp.dtype(dtype), quantization, mesh) if weights else {}
    hash = model_hash(directory, quantization, dtype) if weights else ""
    return Model(config, params, tokenizer, stop_ids, hash, directory, system, thinking, mesh)


def check_model(
    directory: str | Path, quantization: str = "", dtype: str = "float32", mesh: Mesh | None = None
) -> str:
    """Refuses what `load_model` refuses, without reading the weights; returns the model's hash.

    Raises:
        UserError: as `load_model`.
    """
    directory = Path(directory)
    config, *_ = _read_small_files(directory, dtype)
    check_mesh(config, mesh or make_mesh())
    check_weights(directory, config, dtype, quantization)
    return model_hash(directory, quantization, dtype)


def _read_small_files(directory: Path, dtype: str) -> tuple[ModelConfig, Tokenizer, tuple[int, ...]]:
    """Reads everything but the weights."""
    from constellation.model.tokenizer import Tokenizer  # transformers takes seconds to import

    if dtype not in DTYPES:
        raise UserError(f"model.dtype = {dtype!r}: use {' or '.join(map(repr, DTYPES))}")
    config = ModelConfig.from_dir(directory)
    tokenizer = Tokenizer.from_dir(directory, config.vocab_size)
    stop_ids = _read_stop_ids(directory, config.vocab_size)
    written = tokenizer.end_of_answer(stop_ids)
    return config, tokenizer, tuple(sorted(stop_ids, key=lambda id: id != written))


def _read_stop_ids(directory: Path, vocab_size: int) -> tuple[int, ...]:
    """eos_token_id of generation_config.json, one or several; the tokenizer names only one of Qwen3's two."""
    path = directory if is_gguf(directory) else directory / "generation_config.json"
    try:
        if is_gguf(directory):
            ids = GgufFile(directory).stop_ids()
        else:
            ids = json.loads(path.read_text(encoding="utf-8"))["eos_token_id"]
            ids = tuple(ids) if isinstance(ids, list) else (ids,)
    except FileNotFoundError:
        raise UserError(f"{path} not found: fetch it too, it names the tokens that end an answer") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} does not name eos_token_id: fetch it again") from None
    if not ids or not all(isinstance(id, int) and 0 <= id < vocab_size for id in ids):
        raise UserError(
            f"{path}: what ends an answer, eos_token_id = {list(ids)}, are not ids below "
            f"vocab_size = {vocab_size}"
        )
    return ids


def model_hash(directory: str | Path, quantization: str, dtype: str) -> str:
    """Hash of the files and settings that decide what the model computes; loads nothing.

    Raises:
        UserError: there are no weights.
    """
    directory = Path(directory)
    if is_ported(directory):  # the same as of the directory it was ported from
        return read_manifest(directory, dtype, quantization)["hash"]
    digest = hashlib.blake2b(f"{quantization} {dtype}".encode(), digest_size=16)
    for path in [*(directory / name for name in SMALL_FILES), *weight_files(directory)]:
        if path.exists():
            with path.open("rb") as file:
                digest.update(path.name.encode() + hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
