"""Adapters in peft's format (adapter_config.json and adapter_model.safetensors), read and written."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from constellation.model.config import ModelConfig
from constellation.model.lora import Adapter, projection_shapes
from constellation.model.port import layer_tensor, mismatches
from constellation.runtime.errors import UserError, is_integer, is_number
from constellation.runtime.files import disk_full_is_user_error

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
# Fields that change what an adapter computes, and the value at which it is plain LoRA on every layer; null is
# plain, too, and of a field that is not listed here at all, nothing else is.
PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "alpha_pattern": {},
    "bias": "none",
    "ensure_weight_tying": False,
    "fan_in_fan_out": False,
    "loftq_config": {},
    "lora_bias": False,
    "rank_pattern": {},
    "use_dora": False,
    "use_qalora": False,
}
# Fields that change nothing in the forward pass of a trained adapter.
INERT = frozenset(
    "auto_mapping base_model_name_or_path inference_mode lora_dropout megatron_core peft_version"
    " qalora_group_size revision runtime_config task_type".split()
)
INITS = (None, True, False, "gaussian", "orthogonal")  # others change the base's weights, or might


def is_peft(directory: Path) -> bool:
    """Whether a directory holds an adapter in this format."""
    return (directory / CONFIG).exists()


def save_peft(directory: Path, config: ModelConfig, adapter: Adapter, base: str) -> None:
    """Writes an adapter for `peft.PeftModel.from_pretrained`; `base` names the base model in peft's records.

    Raises:
        UserError: the disk is full.
    """
    tensors = {
        _tensor(layer, name, part): np.asarray(matrices[layer])
        for name, lora in adapter.weights.items()
        for part, matrices in lora.items()
        for layer in range(config.num_hidden_layers)
    }
    rank = next(iter(adapter.weights.values()))["a"].shape[1]
    fields = PLAIN | {
        "base_model_name_or_path": base,
        "inference_mode": True,
        "lora_alpha": adapter.scale * rank,
        "lora_dropout": 0.0,
        "r": rank,
        "target_modules": sorted(adapter.weights),
        "task_type": "CAUSAL_LM",
        "use_rslora": False,
    }
    with disk_full_is_user_error(directory):
        directory.mkdir(parents=True, exist_ok=True)
        save_file(tensors, directory / TENSORS, metadata={"format": "pt"})
        (directory / CONFIG).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")


def load_peft(directory: Path, config: ModelConfig) -> Adapter:
    """Reads an adapter of a base model with this config, that peft, or `save_peft`, wrote.

    Raises:
        UserError: a missing or damaged file, an adapter that is more than plain LoRA on every layer, or (all
            in one message) every tensor that is missing, unexpected or misshapen.
    """
    try:
        fields = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise ValueError(f"{CONFIG} is not an object")
        tensors = load_file(directory / TENSORS)
    except (OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{directory} holds no whole peft adapter ({error!r}): "
            f"give a directory with {CONFIG} and {TENSORS}"
        ) from None
    shapes = projection_shapes(config)
    if refused := _refused(fields, shapes):
        raise UserError(f"{directory / CONFIG} asks for what is not implemented: {'; '.join(refused)}")
    rank, targets = fields["r"], [target.rpartition(".")[2] for target in fields["target_modules"]]
    expected = {
        _tensor(layer, name, part): (rank, shapes[name][1]) if part == "a" else (shapes[name][0], rank)
        for name in targets
        for layer in range(config.num_hidden_layers)
        for part in ("a", "b")
    }
    if problems := mismatches({name: tensor.shape for name, tensor in tensors.items()}, expected):
        raise UserError(f"{directory}: the adapter does not fit the model: {'; '.join(sorted(problems))}")

    def stacked(name: str, part: str) -> jnp.ndarray:
        layers = [tensors[_tensor(layer, name, part)] for layer in range(config.num_hidden_layers)]
        return jnp.asarray(np.stack(layers).astype(np.float32))

    weights = {name: {part: stacked(name, part) for part in ("a", "b")} for name in targets}
    return Adapter(weights, fields["lora_alpha"] / (math.sqrt(rank) if fields.get("use_rslora") else rank))


def _refused(fields: dict[str, Any], projections: Collection[str]) -> list[str]:
    """What is not plain LoRA on some of the `projections` of every layer, each as one phrase."""
    rank: Any = fields.get("r")
    targets, init = fields.get("target_modules"), fields.get("init_lora_weights")
    names = targets if isinstance(targets, list) and all(isinstance(name, str) for name in targets) else []
    rules = {
        "r": (is_integer(rank) and 0 < rank < 2**31, "a positive integer"),
        "lora_alpha": (is_number(fields.get("lora_alpha")), "a number"),
        "target_modules": (bool(names), "a list of names"),
        "use_rslora": (isinstance(fields.get("use_rslora"), bool | None), "true or false"),
        "init_lora_weights": (init in INITS, "true, false, gaussian or orthogonal"),
    }
    refused = [
        f"{name} = {fields.get(name)!r} (only {kind})" for name, (right, kind) in rules.items() if not right
    ]
    for name, value in fields.items():
        plain = PLAIN.get(name)
        if not (
            name in rules or name in INERT or value is None or (type(value), value) == (type(plain), plain)
        ):
            refused.append(f"{name} = {value!r}")
    return refused + [f"target {name}" for name in names if name.rpartition(".")[2] not in projections]


def _tensor(layer: int, name: str, part: str) -> str:
    """peft's name of one matrix: (3, "q_proj", "a") -> "base_model.model.model.layers.3...lora_A.weight"."""
    module = layer_tensor(layer, name).removesuffix(".weight")
    return f"base_model.model.{module}.lora_{part.upper()}.weight"
