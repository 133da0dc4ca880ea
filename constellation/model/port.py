"""Hugging Face safetensors <-> stacked parameters, one stack at a time."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from aqt.jax.v2.aqt_tensor import QTensor
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from constellation.errors import UserError
from constellation.model.config import ModelConfig
from constellation.model.decoder import Params
from constellation.model.lora import projection_shapes
from constellation.model.quantize import group_size, quantize_weight

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
EMBED, NORM, LM_HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
# Our name of a layer's tensor -> the module that holds it there; "" is the layer itself.
MODULES = {
    "q_proj": "self_attn.", "k_proj": "self_attn.", "v_proj": "self_attn.", "o_proj": "self_attn.",
    "q_norm": "self_attn.", "k_norm": "self_attn.",
    "gate_proj": "mlp.", "up_proj": "mlp.", "down_proj": "mlp.",
    "input_layernorm": "", "post_attention_layernorm": "",
}  # fmt: skip


def load_params(
    directory: str | Path, config: ModelConfig, dtype: jax.typing.DTypeLike, quantization: str = ""
) -> Params:
    """Reads the weights that `config` describes, holding one unquantised stack [L, out, in] at a time.

    Args:
        dtype: of the dense weights.
        quantization: as for `quantize`.

    Raises:
        UserError: no weights, a damaged file, or (all in one message) every tensor that is missing,
            unexpected, misshapen, or not a float.
    """
    group, dtype = group_size(quantization), jnp.dtype(dtype)
    with _tensors(Path(directory), config) as holder:

        def read(name: str) -> np.ndarray:
            return holder[name].get_tensor(name).astype(dtype)

        def read_stack(name: str, shape: tuple[int, ...]) -> jax.Array | QTensor:
            stacked = np.empty((config.num_hidden_layers, *shape), dtype)
            for layer in range(config.num_hidden_layers):
                stacked[layer] = read(layer_tensor(layer, name))
            array = jnp.asarray(stacked)
            return quantize_weight(array, group) if group and name in projection_shapes(config) else array

        params: Params = {"embed": jnp.asarray(read(EMBED)), "norm": jnp.asarray(read(NORM))}
        if not config.tie_word_embeddings:
            params["lm_head"] = jnp.asarray(read(LM_HEAD))
        params["layers"] = {name: read_stack(name, shape) for name, shape in layer_shapes(config).items()}
        return params


def check_weights(directory: str | Path, config: ModelConfig, quantization: str = "") -> None:
    """Refuses what `load_params` refuses, from the files' headers alone.

    Raises:
        UserError: as `load_params`.
    """
    group = group_size(quantization)
    with _tensors(Path(directory), config):
        for shape in projection_shapes(config).values() if group else ():
            jax.eval_shape(
                lambda weight: quantize_weight(weight, group), jax.ShapeDtypeStruct((1, *shape), jnp.float32)
            )


def save_hf(directory: str | Path, config: ModelConfig, params: Params) -> None:
    """Writes config.json and model.safetensors (dense parameters, in bfloat16), as transformers does."""
    tensors = {EMBED: params["embed"], NORM: params["norm"]}
    if not config.tie_word_embeddings:
        tensors[LM_HEAD] = params["lm_head"]
    for name in MODULES:
        for layer in range(config.num_hidden_layers):
            tensors[layer_tensor(layer, name)] = params["layers"][name][layer]
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: np.asarray(tensor.astype(jnp.bfloat16)) for name, tensor in tensors.items()},
        directory / SINGLE,
        metadata={"format": "pt"},
    )
    fields = config.to_fields() | {"dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def weight_files(directory: str | Path) -> list[Path]:
    """model.safetensors, or the shards that its index names, in order.

    Raises:
        UserError: there are none, the index is damaged, or a shard is missing.
    """
    directory = Path(directory)
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


def layer_tensor(layer: int, name: str) -> str:
    """Hugging Face's name of a layer's tensor: (3, "q_proj") -> "model.layers.3.self_attn.q_proj.weight"."""
    return f"model.layers.{layer}.{MODULES[name]}{name}.weight"


def layer_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of one layer, under our names."""
    return {
        **projection_shapes(config),
        "q_norm": (config.head_dim,),
        "k_norm": (config.head_dim,),
        "input_layernorm": (config.hidden_size,),
        "post_attention_layernorm": (config.hidden_size,),
    }


@contextlib.contextmanager
def _tensors(directory: Path, config: ModelConfig) -> Iterator[dict[str, safe_open]]:
    """The open file of every tensor, all of them as `config` has them."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(_open(path)) for path in weight_files(directory)]
        holder = {name: file for file in files for name in file.keys()}  # noqa: SIM118 (not a mapping)
        _check(directory, config, holder)
        yield holder


@contextlib.contextmanager
def _open(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, "np") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or cut short ({error}): fetch it again") from None


def _check(directory: Path, config: ModelConfig, holder: dict[str, safe_open]) -> None:
    """Compares every header with `config` before anything is read."""
    embed = (config.vocab_size, config.hidden_size)
    expected: dict[str, tuple[int, ...]] = {EMBED: embed, NORM: (config.hidden_size,), LM_HEAD: embed}
    for name, shape in layer_shapes(config).items():
        expected |= {layer_tensor(layer, name): shape for layer in range(config.num_hidden_layers)}
    duplicate_head = config.tie_word_embeddings and LM_HEAD in holder
    if config.tie_word_embeddings and not duplicate_head:
        del expected[LM_HEAD]

    problems = [f"missing {name}" for name in expected if name not in holder]
    problems += [f"unexpected {name}" for name in holder if name not in expected]
    for name in expected.keys() & holder.keys():
        header = holder[name].get_slice(name)
        if tuple(header.get_shape()) != expected[name]:
            problems.append(f"{name} is {list(header.get_shape())}, not {list(expected[name])}")
        elif header.get_dtype() not in ("F32", "BF16", "F16"):
            problems.append(f"{name} is {header.get_dtype()}, not a float")
    if not problems and duplicate_head:
        embedding, head = (holder[name].get_tensor(name) for name in (EMBED, LM_HEAD))
        if not np.array_equal(embedding, head):
            problems.append(f"{LM_HEAD} differs from the embedding that config.json ties it to")
    if problems:
        raise UserError(f"{directory}: the weights do not match config.json: {'; '.join(sorted(problems))}")
