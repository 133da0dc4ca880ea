"""`config.json` of a dense decoder's directory: every field is honoured, known to be inert, or refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from constellation.model.families import FAMILIES, INERT, Family
from constellation.model.gguf_file import GgufFile, is_gguf
from constellation.model.rope import RopeScaling
from constellation.runtime.errors import UserError, is_integer, is_number

FULL, SLIDING = "full_attention", "sliding_attention"  # values of layer_types


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shape and constants of a decoder, under Hugging Face's names. Hashable: a static jit argument.

    The fields from query_pre_attn_scalar on are of some families alone; None elsewhere, and where off.
    """

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
    model_type: str = "qwen3"
    query_pre_attn_scalar: int | None = None  # scores are multiplied by its -1/2 power; None for head_dim
    attn_logit_softcapping: float | None = None  # cap * tanh(scores / cap)
    final_logit_softcapping: float | None = None  # so are logits
    sliding_window: int | None = None  # the last tokens that a local layer attends to, its own included
    layer_types: tuple[str, ...] | None = None  # of each layer; None where all attend to everything
    rope_local_base_freq: float | None = None  # rope_theta of the local layers

    @property
    def family(self) -> Family:
        return FAMILIES[self.model_type]

    @property
    def attention_scale(self) -> float:
        """What the products of queries and keys are multiplied by."""
        return (self.query_pre_attn_scalar or self.head_dim) ** -0.5

    @classmethod
    def from_dir(cls, directory: str | Path) -> ModelConfig:
        """Reads `directory/config.json`, or the metadata of a GGUF file.

        Raises:
            UserError: as `read_fields` and `from_fields`.
        """
        source = directory if is_gguf(directory) else Path(directory) / "config.json"
        return cls.from_fields(read_fields(directory), str(source))

    @classmethod
    def from_fields(cls, fields: dict[str, Any], source: str = "config.json") -> ModelConfig:
        """The config of a decoded JSON object, which errors call `source`.

        Raises:
            UserError: another architecture, a missing field, or a field or value that is not honoured.
        """
        model_type = fields.get("model_type")
        if not isinstance(model_type, str) or model_type not in FAMILIES:
            raise UserError(
                f"{source}: model_type is {model_type!r}, and what is implemented is {', '.join(FAMILIES)}: "
                "point model.dir at a model of one of these"
            )
        family = FAMILIES[model_type]
        values, refused = _sorted_out(fields, family)
        missing = sorted(field.name for field in dataclasses.fields(cls) if _is_missing(field, values))
        if refused:
            raise UserError(f"{source} asks for what this decoder does not implement: {'; '.join(refused)}")
        if missing:
            raise UserError(f"{source} lacks {', '.join(missing)}: add what the model was trained with")
        config = cls(**{name: _checked(name, value, source) for name, value in values.items()})
        if config.num_attention_heads % config.num_key_value_heads:
            raise UserError(f"{source}: num_attention_heads must be a multiple of num_key_value_heads")
        if config.head_dim % 2:
            raise UserError(f"{source}: head_dim must be even (rotary halves)")
        return _without_idle_windows(config, source)

    def with_layers(self, count: int) -> ModelConfig:
        """The same with another number of layers: the last ones, where their types differ."""
        types = self.layer_types
        if types is not None:
            types = tuple(types[i % len(types)] for i in range(-count, 0))
        return dataclasses.replace(self, num_hidden_layers=count, layer_types=types)

    def to_fields(self) -> dict[str, Any]:
        """The JSON object that `from_fields` and transformers both read as this model."""
        written = (_COMMON | self.family.honoured) - {"model_type", "rope_theta", "rope_scaling"}
        fields = {name: value for name, value in dataclasses.asdict(self).items() if name in written}
        scaling = {"rope_type": "default"} if self.rope_scaling is None else self.rope_scaling.to_fields()
        rope: dict[str, Any] = {"rope_theta": self.rope_theta} | scaling
        if "rope_local_base_freq" in self.family.honoured:
            local = {"rope_theta": self.rope_local_base_freq} if self.rope_local_base_freq else {}
            rope = {FULL: rope, SLIDING: {"rope_type": "default"} | local}
        if self.family.global_every:
            fields["layer_types"] = list(self.layer_types or (FULL,) * self.num_hidden_layers)
        return {
            "architectures": [self.family.architecture],
            "model_type": self.model_type,
            **fields,
            **{name: value for name, value in self.family.fixed.items() if name in _WRITTEN},
            "rope_parameters": rope,
            "rope_theta": self.rope_theta,
        }


def read_fields(directory: str | Path) -> dict[str, Any]:
    """The JSON object in `directory/config.json`, or what a GGUF file's metadata would be there.

    Raises:
        UserError: no such file, not a JSON object, or as `GgufFile`.
    """
    if is_gguf(directory):
        return GgufFile(directory).config_fields()
    path = Path(directory) / "config.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} not found: model.dir must be a Hugging Face model directory or a GGUF file"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not readable as JSON ({error}): fetch it again") from None
    if not isinstance(fields, dict):
        raise UserError(f"{path} is not a JSON object: fetch it again")
    return fields


_OPTIONAL = {field.name for field in dataclasses.fields(ModelConfig) if field.default is None}
_COMMON = {field.name for field in dataclasses.fields(ModelConfig)} - _OPTIONAL
_WRITTEN = ("attention_bias", "hidden_act", "hidden_activation")  # of what is fixed
_CAPS = {"attn_logit_softcapping", "final_logit_softcapping"}  # may be null, for none
_MOST_LAYERS = 10_000


def _sorted_out(fields: dict[str, Any], family: Family) -> tuple[dict[str, Any], list[str]]:
    """The values of what is honoured, and what is refused, each as one phrase."""
    values: dict[str, Any] = {"tie_word_embeddings": False, "rope_scaling": None, **family.defaults}
    refused: list[str] = []
    every: Any = family.global_every
    for name, value in fields.items():
        if name in ("rope_parameters", "rope_scaling"):  # the new spelling and the old
            _read_rope(name, value, fields, family, values, refused)
        elif name in _COMMON | family.honoured:
            values[name] = value
        elif name == "layer_types":
            kinds = (FULL, SLIDING) if family.global_every else (FULL,)
            if value is None or (isinstance(value, list) and all(kind in kinds for kind in value)):
                values[name] = value
            else:
                refused.append(f"layer_types other than {' and '.join(kinds)}")
        elif name == family.period:
            every = value
        elif name in family.fixed:
            fixed = family.fixed[name]
            allowed = fixed if isinstance(fixed, tuple) else (fixed,)
            # A truth value is no number, whatever Python thinks of 0 == False.
            if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
                refused.append(f"{name} = {value!r} (only {' or '.join(map(repr, allowed))})")
        elif name not in INERT | family.inert:
            refused.append(f"{name} = {value!r}")
    refused += _derive(values, family, every)
    return values, refused


def _derive(values: dict[str, Any], family: Family, every: Any) -> list[str]:
    """Adds what follows from other values where it is left out; returns what is refused, as phrases.

    Args:
        every: how often a layer is global, if layer_types do not say.
    """

    def number(name: str) -> int:
        value: Any = values.get(name)
        return value if is_integer(value) and value > 0 else 0  # another is refused later, by its name

    hidden, heads, layers = map(number, ("hidden_size", "num_attention_heads", "num_hidden_layers"))
    derived = {"num_key_value_heads": heads, "head_dim": hidden // heads if heads else 0}
    for name in family.derived:
        if values.get(name) is None and derived[name]:
            values[name] = derived[name]
    if not family.global_every:
        values.pop("layer_types", None)
        return []
    if layers > _MOST_LAYERS:
        return [f"num_hidden_layers = {layers} (at most {_MOST_LAYERS:,})"]
    if not is_integer(every) or every < 1:
        return [f"{family.period} = {every!r} (only a positive integer)"]
    if values.get("layer_types") is None:
        values["layer_types"] = [SLIDING if (layer + 1) % every else FULL for layer in range(layers)]
    needed = family.honoured - _CAPS
    if SLIDING not in values["layer_types"]:
        needed -= {"sliding_window", "rope_local_base_freq"}
    return [f"{name} = None" for name in sorted(needed) if values[name] is None]


def _read_rope(
    name: str,
    value: Any,
    fields: dict[str, Any],
    family: Family,
    values: dict[str, Any],
    refused: list[str],
) -> None:
    """Adds what an object of the rotary embedding says to `values`, what is wrong with it to `refused`."""
    if value is not None and not isinstance(value, dict):
        refused.append(f"{name} = {value!r} (only an object)")
        return
    rope = dict(value or {})
    bases = {"rope_theta": rope}
    if "rope_local_base_freq" in family.honoured and rope.keys() & {FULL, SLIDING}:
        kinds = {kind: rope.pop(kind, None) or {} for kind in (FULL, SLIDING)}
        if not all(isinstance(kind, dict) for kind in kinds.values()):
            refused.append(f"{name} = {value!r} (only objects)")
            return
        local, rope = {"rope_type": "default", **kinds[SLIDING]}, {**kinds[FULL], **rope}
        if local.keys() - {"rope_theta"} != {"rope_type"} or local["rope_type"] != "default":
            refused.append(f"{name}, {SLIDING}: {local!r} (only the default)")
        bases = {"rope_theta": rope, "rope_local_base_freq": local}
    for base, holder in bases.items():
        if "rope_theta" in holder:
            values[base] = holder.pop("rope_theta")
            if fields.get(base, values[base]) != values[base]:
                refused.append(f"{base} = {fields[base]!r} beside another in {name}")
    try:
        values["rope_scaling"] = RopeScaling.from_fields(rope) or values["rope_scaling"]
    except ValueError as error:
        refused.append(f"{name} = {value!r} ({error})")


def _is_missing(field: dataclasses.Field[Any], values: dict[str, Any]) -> bool:
    return field.default is dataclasses.MISSING and field.name not in values


def _checked(name: str, value: Any, source: str) -> Any:
    """A value of the type that its field has; None only where the field may be None."""
    types = {field.name: str(field.type) for field in dataclasses.fields(ModelConfig)}
    kind, _, optional = types[name].partition(" | ")
    if name in ("rope_scaling", "model_type") or (optional and value is None):
        return value
    if name == "layer_types":
        return tuple(value)
    valid = {
        "bool": isinstance(value, bool),
        "int": is_integer(value) and 0 < value < 2**31,
        "float": is_number(value) and value > 0,
    }
    if not valid[kind]:
        raise UserError(f"{source}: {name} = {value!r} is not a valid {kind}")
    return float(value) if kind == "float" else value


def _without_idle_windows(config: ModelConfig, source: str) -> ModelConfig:
    """Fields of the windows are None where no layer has one, so that equal models have equal configs."""
    types = config.layer_types or ()
    if types and len(types) != config.num_hidden_layers:
        raise UserError(
            f"{source}: layer_types are of {len(types)} layers, and num_hidden_layers is "
            f"{config.num_hidden_layers}"
        )
    if SLIDING in types and config.sliding_window:
        return config
    return dataclasses.replace(config, layer_types=None, sliding_window=None, rope_local_base_freq=None)
