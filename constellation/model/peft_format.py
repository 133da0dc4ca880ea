"""Adapters in peft's format (adapter_config.json and adapter_model.safetensors), read and written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from constellation.errors import UserError
from constellation.files import disk_full_is_user_error
from constellation.model.config import ModelConfig
from constellation.model.lora import Adapter, projection_shapes
from constellation.model.port import layer_tensor

CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
# Fields that change what an adapter computes, and the value at which it is plain LoRA on every layer.
PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "bias": "none",
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "layer_replication": None,
    "layers_to_transform": None,
    "lora_bias": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_dora": False,
}


def is_peft(directory: Path) -> bool:
    """Whether a directory holds an adapter in this format."""
    return (directory / CONFIG).exists()


def save_peft(directory: Path, config: ModelConfig, adapter: Adapter, base: str) -> None:
    """Writes an adapter for `peft.PeftModel.from_pretrained`.

    Args:
        config: of the base model.
        base: the base model's directory or name, for peft's records.

    Raises:
        UserError: the disk is full.
    """
    tensors: dict[str, np.ndarray] = {}
    for name, lora in adapter.weights.items():
        for layer in range(config.num_hidden_layers):
            for part in ("a", "b"):
                tensors[_tensor(layer, name, part)] = np.asarray(lora[part][layer])
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
    """Reads an adapter that peft, or `save_peft`, wrote.

    Args:
        config: of the base model that it is for.

    Raises:
        UserError: a missing or damaged file, an adapter that is more than plain LoRA on every layer, or (all
            in one message) every tensor that is missing, unexpected or misshapen.
    """
    try:
        fields = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        tensors = load_file(directory / TENSORS)
        rank, alpha, targets = int(fields["r"]), float(fields["lora_alpha"]), list(fields["target_modules"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(
            f"{directory} holds no whole peft adapter ({error!r}): "
            f"give a directory with {CONFIG} and {TENSORS}"
        ) from None
    unlike = {name: fields[name] for name, plain in PLAIN.items() if fields.get(name) not in (plain, None)}
    shapes = projection_shapes(config)
    targets = [target.rpartition(".")[2] for target in targets]
    if unlike or not targets or set(targets) - set(shapes):
        asked = [f"{name} = {value!r}" for name, value in unlike.items()]
        asked += [f"target {name}" for name in targets if name not in shapes]
        raise UserError(f"{directory / CONFIG} asks for what is not implemented: {'; '.join(asked)}")
    expected = {
        _tensor(layer, name, part): (rank, shapes[name][1]) if part == "a" else (shapes[name][0], rank)
        for name in targets
        for layer in range(config.num_hidden_layers)
        for part in ("a", "b")
    }
    problems = [f"missing {name}" for name in expected if name not in tensors]
    problems += [f"unexpected {name}" for name in tensors if name not in expected]
    problems += [
        f"{name} is {list(tensors[name].shape)}, not {list(shape)}"
        for name, shape in expected.items()
        if name in tensors and tensors[name].shape != shape
    ]
    if problems:
        raise UserError(f"{directory}: the adapter does not fit the model: {'; '.join(sorted(problems))}")

    def stacked(name: str, part: str) -> jnp.ndarray:
        layers = [tensors[_tensor(layer, name, part)] for layer in range(config.num_hidden_layers)]
        return jnp.asarray(np.stack(layers).astype(np.float32))

    weights = {name: {part: stacked(name, part) for part in ("a", "b")} for name in targets}
    return Adapter(weights, alpha / (math.sqrt(rank) if fields.get("use_rslora") else rank))


def _tensor(layer: int, name: str, part: str) -> str:
    """peft's name of one matrix: (3, "q_proj", "a") -> "base_model.model.model.layers.3...lora_A.weight"."""
    module = layer_tensor(layer, name).removesuffix(".weight")
    return f"base_model.model.{module}.lora_{part.upper()}.weight"
