"""`config.json` of a Qwen3 directory: every field is honoured, known to be inert, or refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from constellation.model.rope import RopeScaling
from constellation.runtime.errors import UserError, is_integer, is_number

# Fields that cannot change what the forward pass computes.
INERT = frozenset(
    "_name_or_path architectures bos_token_id chunk_size_feed_forward dtype eos_token_id id2label"
    " initializer_range is_encoder_decoder label2id max_position_embeddings max_window_layers model_type"
    " output_attentions output_hidden_states pad_token_id problem_type return_dict sliding_window torch_dtype"
    " transformers_version use_cache".split()
)
# Fields that could; only the value that this decoder implements is accepted.
FIXED: dict[str, Any] = {
    "attention_bias": False,
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "mlp_bias": False,
    "use_sliding_window": False,
}


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape and constants of a Qwen3 decoder, under Hugging Face's names. Hashable: a static jit argument."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    tie_word_embeddings: bool
    rope_scaling: RopeScaling | None = None

    @classmethod
    def from_dir(cls, directory: str | Path) -> ModelConfig:
        """Reads `directory/config.json`.

        Raises:
            UserError: no such file, not JSON, or as `from_fields`.
        """
        path = Path(directory) / "config.json"
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"{path} not found: model.dir must be a Hugging Face model directory") from None
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not readable as JSON ({error}): fetch it again") from None
        if not isinstance(fields, dict):
            raise UserError(f"{path} is not a JSON object: fetch it again")
        return cls.from_fields(fields, source=str(path))

    @classmethod
    def from_fields(cls, fields: dict[str, Any], source: str = "config.json") -> ModelConfig:
        """The config of a decoded JSON object, which errors call `source`.

        Raises:
            UserError: another architecture, a missing field, or a field or value that is not honoured.
        """
        if fields.get("model_type") != "qwen3":
            raise UserError(
                f"{source}: model_type is {fields.get('model_type')!r}, and only 'qwen3' is implemented: "
                "point model.dir at a Qwen3 model"
            )
        # transformers' defaults, left out by some directories
        values: dict[str, Any] = {"tie_word_embeddings": False, "rope_scaling": None}
        refused: list[str] = []
        names = {field.name for field in dataclasses.fields(cls)}
        for name, value in fields.items():
            if name in ("rope_parameters", "rope_scaling"):  # the new spelling and the old
                if value is not None and not isinstance(value, dict):
                    refused.append(f"{name} = {value!r} (only an object)")
                    continue
                rope = dict(value or {})
                if "rope_theta" in rope:
                    values["rope_theta"] = rope.pop("rope_theta")
                    if fields.get("rope_theta", values["rope_theta"]) != values["rope_theta"]:
                        refused.append(f"rope_theta = {fields['rope_theta']!r} beside another in {name}")
                try:
                    values["rope_scaling"] = RopeScaling.from_fields(rope) or values["rope_scaling"]
                except ValueError as error:
                    refused.append(f"{name} = {value!r} ({error})")
            elif name in names:
                values[name] = value
            elif name == "layer_types":
                if value is not None and not _is_full_attention(value):
                    refused.append("layer_types other than full_attention")
            elif name in FIXED:
                if value != FIXED[name] or isinstance(value, bool) != isinstance(FIXED[name], bool):
                    refused.append(f"{name} = {value!r} (only {FIXED[name]!r})")
            elif name not in INERT:
                refused.append(f"{name} = {value!r}")
        missing = sorted(names - set(values))
        if refused:
            raise UserError(f"{source} asks for what this decoder does not implement: {'; '.join(refused)}")
        if missing:
            raise UserError(f"{source} lacks {', '.join(missing)}: add what the model was trained with")
        config = cls(**{name: _checked(name, value, source) for name, value in values.items()})
        if config.num_attention_heads % config.num_key_value_heads:
            raise UserError(f"{source}: num_attention_heads must be a multiple of num_key_value_heads")
        if config.head_dim % 2:
            raise UserError(f"{source}: head_dim must be even (rotary halves)")
        return config

    def to_fields(self) -> dict[str, Any]:
        """The JSON object that `from_fields` and transformers both read as this model."""
        fields = dataclasses.asdict(self)
        theta, scaling = fields.pop("rope_theta"), fields.pop("rope_scaling")
        rope = {name: value for name, value in (scaling or {"rope_type": "default"}).items() if value}
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            **fields,
            "attention_bias": False,
            "hidden_act": "silu",
            "rope_parameters": {"rope_theta": theta, **rope},
            "rope_theta": theta,
        }


def _is_full_attention(layer_types: Any) -> bool:
    return isinstance(layer_types, list) and layer_types == ["full_attention"] * len(layer_types)


def _checked(name: str, value: Any, source: str) -> Any:
    if name == "rope_scaling":
        return value
    kind = {field.name: str(field.type) for field in dataclasses.fields(ModelConfig)}[name]
    valid = {
        "bool": isinstance(value, bool),
        "int": is_integer(value) and 0 < value < 2**31,
        "float": is_number(value) and value > 0,
    }
    if not valid[kind]:
        raise UserError(f"{source}: {name} = {value!r} is not a valid {kind}")
    return float(value) if kind == "float" else value
