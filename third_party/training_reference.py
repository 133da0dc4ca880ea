"""The LoRA update in PyTorch: transformers and peft, torch's cross entropy, gradient clipping and AdamW.

It takes the batches of `constellation.selftraining.batches` with one answer a row: transformers knows no
branches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from constellation.selftraining.batches import Batch, TrainingExample, pack
from third_party.model_reference import capped


def load_peft(directory: str | Path, rank: int, alpha: int) -> PeftModel:
    """A Hugging Face directory in float32 with a fresh LoRA adapter on the seven projections."""
    return add_adapter(AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32), rank, alpha)


def add_adapter(model: PreTrainedModel, rank: int, alpha: int) -> PeftModel:
    """The model with a fresh LoRA adapter on the seven projections, which are replaced in place."""
    return get_peft_model(
        model, LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear")
    )


def write_adapter(model: PeftModel, weights: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Puts stacked weights, {projection: {"a": [L, rank, in], "b": [L, out, rank]}}, into peft's layers."""
    for (projection, part, layer), parameter in _adapter_parameters(model).items():
        parameter.data.copy_(torch.tensor(np.asarray(weights[projection][part][layer])))


def read_adapter(model: PeftModel, gradient: bool = False) -> dict[str, dict[str, np.ndarray]]:
    """The adapter's weights, or their gradients, stacked as ours are."""
    stacked: dict[str, dict[str, list[np.ndarray]]] = {}
    for (projection, part, _), parameter in sorted(_adapter_parameters(model).items()):
        value = parameter.grad if gradient else parameter.data
        stacked.setdefault(projection, {}).setdefault(part, []).append(value.numpy(force=True).copy())
    return {
        name: {part: np.stack(layers) for part, layers in parts.items()} for name, parts in stacked.items()
    }


def _adapter_parameters(model: PeftModel) -> dict[tuple[str, str, int], torch.nn.Parameter]:
    """(projection, "a" or "b", layer) -> parameter."""
    found = {}
    for name, parameter in model.named_parameters():
        if "lora_" in name:  # ... model.layers.<layer>.self_attn.<projection>.lora_A.default.weight
            parts = name.split(".")
            layer = int(parts[parts.index("layers") + 1])
            found[parts[-4], parts[-3].removeprefix("lora_").lower(), layer] = parameter
    return found


def make_optimizer(
    model: PeftModel, learning_rate: float, weight_decay: float = 0.0, fused: bool = False
) -> torch.optim.AdamW:
    """AdamW on the adapter."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=learning_rate, weight_decay=weight_decay, fused=fused)


def loss_of(model: PeftModel, batch: Batch) -> torch.Tensor:
    """The sum of weight * cross entropy over the batch's targets, divided by the number of these.

    The vocabulary is computed at the targets alone.

    Raises:
        ValueError: a row with more than one answer or document.
    """
    if np.max(batch.branch) > 1 or np.max(batch.document) > 0:
        raise ValueError("transformers knows no branches: give every answer a row of its own")
    tokens, source, target, weight = (
        torch.from_numpy(np.asarray(array)).to(model.device)
        for array in (batch.tokens, batch.source, batch.target, batch.weight)
    )
    decoder = model.get_base_model()
    # Right padding under a causal mask needs no mask of its own, which leaves torch its fastest attention.
    hidden = decoder.model(input_ids=tokens, use_cache=False).last_hidden_state
    rows, slots = (target >= 0).nonzero(as_tuple=True)
    scores = capped(decoder.lm_head(hidden[rows, source[rows, slots].long()]), decoder.config)
    losses = torch.nn.functional.cross_entropy(scores, target[rows, slots].long(), reduction="none")
    return (losses * weight[rows, slots]).mean()


def update(
    model: PeftModel, optimizer: torch.optim.Optimizer, batches: Sequence[Batch], clip_norm: float
) -> float:
    """One optimizer step on the targets of all batches, differentiated in turn; returns the loss before."""
    optimizer.zero_grad(set_to_none=True)
    targets = [int(np.sum(batch.target >= 0)) for batch in batches]
    losses = []
    for batch, count in zip(batches, targets, strict=True):
        loss = loss_of(model, batch) * (count / sum(targets))
        loss.backward()
        losses.append(loss.detach())
    step(model, optimizer, clip_norm)
    return sum(loss.item() for loss in losses)


def step(model: PeftModel, optimizer: torch.optim.Optimizer, clip_norm: float) -> None:
    """A step by the adapter's gradients, clipped by their global norm."""
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], clip_norm)
    optimizer.step()


def one_a_row(examples: Sequence[TrainingExample]) -> Batch:
    """A padded batch with a row for every example, which has one answer."""
    rows = [pack([example]) for example in examples]

    def stacked(name: str) -> np.ndarray:
        arrays = [getattr(row, name)[0] for row in rows]
        padding = -1 if name in ("document", "branch", "target") else 0
        batch = np.full((len(arrays), max(map(len, arrays))), padding, arrays[0].dtype)
        for row, array in zip(batch, arrays, strict=True):
            row[: len(array)] = array
        return batch

    return Batch(*map(stacked, Batch._fields))


def separate(examples: Sequence[TrainingExample]) -> list[TrainingExample]:
    """One example for each answer."""
    return [
        example.part(slice(index, index + 1)) for example in examples for index in range(len(example.answers))
    ]
