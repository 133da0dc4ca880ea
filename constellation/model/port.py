"""Safetensors or GGUF <-> stacked parameters, read tensor by tensor and quantised on the way."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from constellation.model.config import ModelConfig
from constellation.model.decoder import Params, layer_shapes
from constellation.model.gguf_file import GgufFile, is_gguf
from constellation.model.lora import projection_shapes
from constellation.model.quantize import Leaf, Quantization, pack, quantize_table, quantize_weight
from constellation.runtime.errors import UserError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 2**32
EMBED, NORM, LM_HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
OUTSIDE = {"embed": EMBED, "norm": NORM, "lm_head": LM_HEAD}  # our names of what is in no layer


def layer_tensor(layer: int, name: str) -> str:
    """Hugging Face's name of a layer's tensor: (3, "q_bias") -> "model.layers.3.self_attn.q_proj.bias"."""
    kind = "bias" if name.endswith("_bias") else "weight"
    module = name.replace("_bias", "_proj")
    if module.endswith("layernorm"):
        return f"model.layers.{layer}.{module}.{kind}"
    part = "mlp" if module in ("gate_proj", "up_proj", "down_proj") else "self_attn"
    return f"model.layers.{layer}.{part}.{module}.{kind}"


def tensor_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a model under Hugging Face's names, in the order of published files."""
    table = (config.vocab_size, config.hidden_size)
    shapes: dict[str, tuple[int, ...]] = {EMBED: table}
    for layer in range(config.num_hidden_layers):
        shapes |= {layer_tensor(layer, name): shape for name, shape in layer_shapes(config).items()}
    shapes[NORM] = (config.hidden_size,)
    return shapes if config.tie_word_embeddings else shapes | {LM_HEAD: table}


def mismatches(found: Mapping[str, Sequence[int]], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What is missing, unexpected or misshapen among named tensors, of their shapes; each as one phrase."""
    return [
        *(f"missing {name}" for name in expected if name not in found),
        *(f"unexpected {name}" for name in found if name not in expected),
        *(
            f"{name} is {list(found[name])}, not {list(shape)}"
            for name, shape in expected.items()
            if name in found and tuple(found[name]) != shape
        ),
    ]


class Tensors:
    """The tensors of a directory, of which one at a time is read.

    Files are closed after each: a mapped page counts as memory of the process.
    """

    def __init__(self, directory: str | Path, config: ModelConfig) -> None:
        """Compares every header with `config` before anything is read.

        Raises:
            UserError: no weights, a damaged file, or (all in one message) every tensor that is missing,
                unexpected, misshapen, or not a float.
        """
        with contextlib.ExitStack() as stack:
            files = {path: stack.enter_context(_open(path)) for path in weight_files(directory)}
            self._holder = {
                name: path
                for path, file in files.items()
                for name in file.keys()  # noqa: SIM118
                if not name.endswith(".rotary_emb.inv_freq")  # Llama 2's constants, which no one reads
            }
            _check(directory, config, {name: files[path] for name, path in self._holder.items()})

    def read(self, name: str) -> np.ndarray:
        """A tensor in the file's dtype."""
        with _open(self._holder[name]) as file:
            return file.get_tensor(name)

    def rows(self, name: str, first: int, end: int) -> np.ndarray:
        """Some rows of a matrix, the last of them end - 1, in the file's dtype."""
        with _open(self._holder[name]) as file:
            return file.get_slice(name)[first:end]


def open_tensors(directory: str | Path, config: ModelConfig) -> Tensors | GgufFile:
    """The tensors of a Hugging Face directory, or of a GGUF file; compared with `config` as `Tensors` does.

    Raises:
        UserError: as `Tensors`.
    """
    if not is_gguf(directory):
        return Tensors(directory, config)
    file, expected = GgufFile(directory), tensor_shapes(config)
    if problems := mismatches(file.shapes(expected), expected):
        raise UserError(f"{directory}: the weights do not match the metadata: {'; '.join(sorted(problems))}")
    return file


def leaves(
    directory: str | Path, config: ModelConfig, dtype: jax.typing.DTypeLike, quantization: str = ""
) -> Iterator[tuple[str, Leaf]]:
    """Reads the weights that `config` describes, tensor by tensor, and quantises them on the way.

    Args:
        dtype: of the dense weights and of the scales.
        quantization: as for `Quantization.parse`.

    Yields:
        (name, leaf): "embed", "norm", "lm_head" unless tied, and "layers/<our name>" with a leading axis of
        layers; an int4 leaf as `Nibbles`, an int8 table as a QTensor, a dense leaf as an array. Never more
        than one leaf and one tensor exist at a time.

    Raises:
        UserError: as `Tensors`.
    """
    how, dtype = Quantization.parse(quantization), jnp.dtype(dtype)
    tensors, count = open_tensors(directory, config), config.num_hidden_layers

    def read(name: str) -> np.ndarray:
        return tensors.read(name).astype(dtype, copy=False)

    def table(name: str) -> Leaf:
        return quantize_table(jnp.asarray(read(name))) if how.int8_embedding else read(name)

    for name in layer_shapes(config):
        layers: Iterator[Any] = (read(layer_tensor(layer, name)) for layer in range(count))
        if how.group is not None and name in projection_shapes(config):
            layers = (pack(quantize_weight(jnp.asarray(tensor), how)) for tensor in layers)
        yield f"layers/{name}", _stacked(layers, count)
    yield "embed", table(EMBED)
    yield "norm", read(NORM)
    if not config.tie_word_embeddings:
        yield "lm_head", table(LM_HEAD)


def check_weights(directory: str | Path, config: ModelConfig, quantization: str = "") -> None:
    """Refuses what `leaves` refuses, from the files' headers alone.

    Raises:
        UserError: as `Tensors`.
    """
    how = Quantization.parse(quantization)
    open_tensors(directory, config)
    for shape in projection_shapes(config).values() if how.group is not None else ():
        jax.eval_shape(lambda weight: quantize_weight(weight, how), jax.ShapeDtypeStruct(shape, jnp.float32))


def save_hf(directory: str | Path, config: ModelConfig, params: Params) -> None:
    """Writes config.json and model.safetensors (dense parameters, in bfloat16), as transformers does."""
    tensors = {theirs: params[ours] for ours, theirs in OUTSIDE.items() if ours in params}
    for name in layer_shapes(config):
        for layer in range(config.num_hidden_layers):
            tensors[layer_tensor(layer, name)] = params["layers"][name][layer]
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    rounded = {name: np.asarray(tensor.astype(jnp.bfloat16)) for name, tensor in tensors.items()}
    save_file(rounded, directory / SINGLE, metadata={"format": "pt"})
    fields = config.to_fields() | {"dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def write_shards(
    directory: Path, tensors: Iterable[tuple[str, np.ndarray]], shard_bytes: int = SHARD_BYTES
) -> None:
    """Writes model.safetensors or, of what one file may not hold, shards and then their index.

    Holds one shard at a time. Until the last tensor has come, no file has a name that is read.

    Args:
        shard_bytes: most bytes of tensors in a file, unless one tensor alone is larger.
    """
    numbers: dict[str, int] = {}  # of the shard that a tensor is in
    unfinished: list[Path] = []
    total = 0
    for shard in _shards(tensors, shard_bytes):
        numbers |= dict.fromkeys(shard, len(unfinished))
        unfinished.append(directory / f"model-{len(unfinished) + 1:05}.unfinished")
        save_file(shard, unfinished[-1], metadata={"format": "pt"})
        total += _bytes(shard)
    count = len(unfinished)
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    if count == 1:
        names = [SINGLE]
    for path, name in zip(unfinished, names, strict=True):
        path.rename(directory / name)
    if count > 1:
        weight_map = {tensor: names[number] for tensor, number in numbers.items()}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _shards(tensors: Iterable[tuple[str, np.ndarray]], shard_bytes: int) -> Iterator[dict[str, np.ndarray]]:
    """The tensors of one file after another in one dict, so that those of two never exist at a time."""
    shard: dict[str, np.ndarray] = {}
    for name, tensor in tensors:
        if shard and _bytes(shard) + tensor.nbytes > shard_bytes:
            yield shard
            shard.clear()
        shard[name] = tensor
    yield shard


def _bytes(shard: Mapping[str, np.ndarray]) -> int:
    return sum(tensor.nbytes for tensor in shard.values())


def weight_files(directory: str | Path) -> list[Path]:
    """model.safetensors, or the shards that its index names, in order; of a GGUF file, itself.

    Raises:
        UserError: there are none, the index is damaged, or a shard is missing.
    """
    directory = Path(directory)
    if is_gguf(directory):
        return [directory]
    if (directory / SINGLE).exists():
        return [directory / SINGLE]
    index = directory / INDEX
    if not index.exists():
        raise UserError(f"{directory} holds no {SINGLE} and no {INDEX}: fetch the model's weights")
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index} is damaged: fetch it again") from None
    missing = [name for name in names if not (directory / name).exists()]
    if missing:
        raise UserError(f"{directory} lacks {', '.join(missing)}, named by {INDEX}: fetch the missing shards")
    return [directory / name for name in names]


def _stacked(trees: Iterable[Any], count: int) -> Any:
    """Trees of one structure -> one tree of host arrays with a leading axis, filled as they come."""
    stacked: Any = None
    for index, tree in enumerate(trees):
        if stacked is None:
            stacked = jax.tree.map(lambda leaf: np.empty((count, *leaf.shape), leaf.dtype), tree)
        for target, leaf in zip(jax.tree.leaves(stacked), jax.tree.leaves(tree), strict=True):
            target[index] = leaf
    return stacked


@contextlib.contextmanager
def _open(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, "np") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or cut short ({error}): fetch it again") from None


def _check(directory: str | Path, config: ModelConfig, holder: dict[str, safe_open]) -> None:
    expected = tensor_shapes(config)
    duplicate_head = config.tie_word_embeddings and LM_HEAD in holder
    if duplicate_head:
        expected[LM_HEAD] = expected[EMBED]
    headers = {name: file.get_slice(name) for name, file in holder.items()}
    problems = mismatches({name: header.get_shape() for name, header in headers.items()}, expected)
    for name in expected.keys() & holder.keys():
        if headers[name].get_dtype() not in ("F32", "BF16", "F16"):
            problems.append(f"{name} is {headers[name].get_dtype()}, not a float")
    if not problems and duplicate_head:
        embedding, head = (holder[name].get_tensor(name) for name in (EMBED, LM_HEAD))
        if not np.array_equal(embedding, head):
            problems.append(f"{LM_HEAD} differs from the embedding that config.json ties it to")
    if problems:
        raise UserError(f"{directory}: the weights do not match config.json: {'; '.join(sorted(problems))}")
