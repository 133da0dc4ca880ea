"""transformers' decoders: the whole model, or in float32 one layer at a time where memory cannot hold it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

EMBED, NORM, LM_HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"


def load(directory: str | Path, dtype: str = "float32") -> PreTrainedModel:
    """The whole model, for inference."""
    return AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype)).eval()


def token_positions(mask: torch.Tensor) -> torch.Tensor:
    """The positions of the tokens of a left-padded batch, [B, T]; those of the padding are 0."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


@torch.inference_mode()
def logits(model: torch.nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """float32 [P, V]: of the P real positions of a left-padded batch [B, T], row after row."""
    output = model(input_ids=ids, attention_mask=mask, position_ids=token_positions(mask), use_cache=False)
    return output.logits[mask.bool()].float().numpy()


def replace_weights(model: PreTrainedModel, weights: Mapping[str, np.ndarray]) -> None:
    """Puts other values, by their names in the state, into the model."""
    state = model.state_dict()
    with torch.no_grad():
        for name, value in weights.items():
            state[name].copy_(torch.from_numpy(value))


@torch.inference_mode()
def hidden_states(directory: str | Path, ids: torch.Tensor, mask: torch.Tensor) -> Iterator[np.ndarray]:
    """float32 [B, T, D] of a left-padded batch [B, T]: the embeddings, then what each layer makes of them.

    The layer, the rotary angles and the mask are transformers' own; one layer's weights exist at a time.
    """
    config = _config(directory)
    body = _empty(config)
    x = _embeddings(directory, ids) * getattr(body.embed_tokens, "scalar_embed_scale", 1.0)
    positions, rotary = token_positions(mask), type(body.rotary_emb)(config)
    masked = {
        "config": config,
        "inputs_embeds": x,
        "attention_mask": mask,
        "past_key_values": None,
        "position_ids": positions,
    }
    kinds = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
    make = {"full_attention": create_causal_mask, "sliding_attention": create_sliding_window_causal_mask}
    visible = {kind: make[kind](**masked) for kind in set(kinds)}
    by_kind = hasattr(rotary, "layer_types")  # whether kinds of layers have angles of their own
    rope = {kind: rotary(x, positions, *([kind] if by_kind else [])) for kind in set(kinds)}
    yield x.numpy()
    for index, kind in enumerate(kinds):
        layer, body.layers[index] = body.layers[index], torch.nn.Identity()
        prefix = f"model.layers.{index}."
        tensors = {name: _read(directory, prefix + name) for name in layer.state_dict()}
        layer.load_state_dict(tensors, assign=True)
        x = layer(x, attention_mask=visible[kind], position_embeddings=rope[kind])
        del layer, tensors  # before the caller takes memory for its own
        yield x.numpy()


@torch.inference_mode()
def streamed_logits(directory: str | Path, hidden: np.ndarray, rows: int) -> np.ndarray:
    """float32 [P, V] of what the last layer made of P positions [P, D]; `rows` rows of the head at a time."""
    config = _config(directory)
    norm = _empty(config).norm
    norm.load_state_dict({"weight": _read(directory, NORM)}, assign=True)
    normed = norm(torch.from_numpy(hidden))
    name = EMBED if config.tie_word_embeddings else LM_HEAD
    pieces = []
    for start in range(0, config.vocab_size, rows):
        piece = slice(start, min(start + rows, config.vocab_size))
        pieces.append(normed @ _read(directory, name, piece).T)
    return capped(torch.cat(pieces, 1), config).numpy()


def capped(logits: torch.Tensor, config: PreTrainedConfig) -> torch.Tensor:
    """What the head gives, behind the soft cap of some families."""
    cap = getattr(config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def _config(directory: str | Path) -> PreTrainedConfig:
    config = AutoConfig.from_pretrained(directory)
    # As `from_pretrained` of a model chooses; soft caps are computed by the plain way alone.
    plain = getattr(config, "attn_logit_softcapping", None) is not None
    config._attn_implementation = "eager" if plain else "sdpa"
    return config


def _empty(config: PreTrainedConfig) -> torch.nn.Module:
    """Embeddings, layers and norm, without memory for their weights."""
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).model.eval()


def _embeddings(directory: str | Path, ids: torch.Tensor) -> torch.Tensor:
    """[B, T, D]; a table may be larger than the layers, so only the rows that are needed become float32."""
    unique, places = ids.unique(return_inverse=True)
    rows = torch.stack([_read(directory, EMBED, slice(int(id), int(id) + 1))[0] for id in unique])
    return rows[places]


def _read(directory: str | Path, name: str, rows: slice = slice(None)) -> torch.Tensor:
    """A tensor, or some of its rows, in float32."""
    for path in sorted(Path(directory).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if name in file.keys():  # noqa: SIM118
                # A copy even of float32: a mapped file's pages count as memory of the process.
                return file.get_slice(name)[rows].to(torch.float32, copy=True)
    raise KeyError(f"{directory} has no tensor {name}")
