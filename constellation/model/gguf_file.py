"""A GGUF file (llama.cpp's format) as if it were a Hugging Face directory; `gguf` reads and dequantises it.

Its metadata stand for config.json, the tokenizer, the chat template and the ids that end an answer. Its
tensors have other names; those of queries and keys in `llama` have their rows in another order, and Gemma's
norms are one larger. They come out in float32, whatever the quantisation.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Quantised

from constellation.model.families import FAMILIES
from constellation.model.rope import RopeScaling, scaled_frequencies
from constellation.runtime.errors import UserError, is_integer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MODEL_TYPES = {  # of config.json, by the architecture that a file names
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3": "gemma3_text",
}  # fmt: skip
QUANTISATIONS = (
    Quantised.F32, Quantised.F16, Quantised.BF16, Quantised.Q8_0, Quantised.Q4_0, Quantised.Q4_1,
    Quantised.Q5_0, Quantised.Q5_1, Quantised.Q4_K, Quantised.Q5_K, Quantised.Q6_K,
)  # fmt: skip
ROPE_FACTORS = "rope_freqs.weight"  # [H/2], what Llama 3's frequencies are divided by

_FIELDS = {  # of config.json, by the keys behind the architecture
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "attention.sliding_window": "sliding_window",
    "attn_logit_softcapping": "attn_logit_softcapping",
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "final_logit_softcapping": "final_logit_softcapping",
    "rope.freq_base": "rope_theta",
    "rope.freq_base_swa": "rope_local_base_freq",
    "vocab_size": "vocab_size",
}
_SAME = {"attention.value_length", "rope.dimension_count"}  # may differ from head_dim elsewhere, but not here
_SCALING = {
    "rope.scaling.type": "rope_type",
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
}
_INERT = {"rope.scaling.finetuned"}
_LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}  # whose scores are not scaled by the size of a head
_STOPS = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom")]


def is_gguf(path: str | Path) -> bool:
    """Whether a model is one such file."""
    return Path(path).suffix == ".gguf"


class GgufFile:
    """A file, of which one tensor at a time is read."""

    def __init__(self, path: str | Path) -> None:
        """Reads the metadata and where the tensors lie.

        Raises:
            UserError: no such file, a damaged one, or another architecture or quantisation.
        """
        self.path = Path(path)
        try:
            stat = self.path.stat()
            reader = _read(self.path, stat.st_mtime_ns, stat.st_size)
        except FileNotFoundError:
            raise UserError(
                f"{path} not found: model.dir must be a Hugging Face model directory or a GGUF file"
            ) from None
        except Exception as error:  # the library checks nothing: whatever a wrong number leads to
            if Quantised.__name__ in str(error):
                raise UserError(f"{path} is of an unknown quantisation: {_REMEDY}") from None
            raise UserError(f"{path} is damaged or cut short ({error}): fetch it again") from None
        self._fields = reader.fields
        self.tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.architecture: Any = self.get("general.architecture")
        if self.architecture not in MODEL_TYPES:
            raise UserError(
                f"{path}: the architecture is {self.architecture!r}, and what is implemented is "
                f"{', '.join(MODEL_TYPES)}: point model.dir at a model of one of these"
            )
        found = {tensor.tensor_type for tensor in self.tensors.values()}
        if others := sorted(kind.name for kind in found.difference(QUANTISATIONS)):
            raise UserError(f"{path} is quantised as {', '.join(others)}: {_REMEDY}")

    def get(self, key: str) -> Any:
        """A value of the metadata, None where there is none."""
        field = self._fields.get(key)
        value = field.contents() if field else None
        # As it was written: 1e-05 is 9.999999747378752e-06 in float32.
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def config_fields(self) -> dict[str, Any]:
        """What config.json would hold.

        Raises UserError: a key that is not honoured.
        """
        prefix = f"{self.architecture}."
        own = {key.removeprefix(prefix): self.get(key) for key in self._fields if key.startswith(prefix)}
        fields = {name: own[key] for key, name in _FIELDS.items() if key in own}
        model_type = MODEL_TYPES[self.architecture]
        fields |= {"model_type": model_type, "architectures": [FAMILIES[model_type].architecture]}
        fields["tie_word_embeddings"] = "output.weight" not in self.tensors
        if "token_embd.weight" in self.tensors:
            fields.setdefault("vocab_size", int(self.tensors["token_embd.weight"].shape[-1]))
        hidden, heads = fields.get("hidden_size"), fields.get("num_attention_heads")
        # What is no number is refused by its name later.
        size = hidden // heads if is_integer(hidden) and is_integer(heads) and heads else 0
        head_dim = fields.setdefault("head_dim", own.get("rope.dimension_count", size))
        if layers := _LAYERS_OF_27B.get(self.architecture):
            fields["query_pre_attn_scalar"] = size if fields.get("num_hidden_layers") == layers else head_dim
        known = _FIELDS.keys() | _SCALING.keys() | _INERT | {key for key in _SAME if own.get(key) == head_dim}
        if refused := [f"{key} = {own[key]!r}" for key in sorted(own.keys() - known)]:
            raise UserError(f"{self.path} asks for what is not implemented: {'; '.join(refused)}")
        scaling = {name: own[key] for key, name in _SCALING.items() if key in own}
        if ROPE_FACTORS in self.tensors:
            fields["rope_scaling"] = self._llama3_scaling(head_dim, fields.get("rope_theta", 1e4))
        elif scaling.get("rope_type", "none") != "none":
            fields["rope_scaling"] = scaling
        return fields

    def _llama3_scaling(self, head_dim: int, theta: float) -> dict[str, Any]:
        """The scaling that the frequencies' factors come from: of its four numbers only one varies."""
        factors = self._dequantised(ROPE_FACTORS)
        scaling = RopeScaling("llama3", float(factors.max()), 8192, low_freq_factor=1.0, high_freq_factor=4.0)
        plain, scaled = (scaled_frequencies(head_dim, theta, each)[0] for each in (None, scaling))
        if factors.shape != plain.shape or not np.allclose(plain / scaled, factors, rtol=1e-4):
            raise UserError(f"{self.path}: {ROPE_FACTORS} is not Llama 3's: use a file of another model")
        return scaling.to_fields()

    def stop_ids(self) -> tuple[int, ...]:
        """The ids that end an answer.

        Raises UserError: none is named.
        """
        ids = {self.get(key) for key in _STOPS} - {None}
        if not ids:
            raise UserError(f"{self.path} does not name a token that ends an answer: use another file")
        return tuple(sorted(ids))

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer and its chat template, as transformers makes them of such metadata."""
        from transformers import PreTrainedTokenizerFast
        from transformers.integrations.gguf import GGUF_TOKENIZER_MAPPING, convert_gguf_tokenizer

        keys = GGUF_TOKENIZER_MAPPING["tokenizer"]
        described = {name: self.get(f"tokenizer.{key}") for key, name in keys.items()}
        described = {name: value for name, value in described.items() if value is not None}
        backend, _ = convert_gguf_tokenizer(self.architecture, described)
        special = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unk_token_id", "pad": "pad_token_id"}
        tokens = {
            f"{name}_token": described["tokens"][described[field]]
            for name, field in special.items()
            if field in described
        }
        template = self.get("tokenizer.chat_template")
        return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, **tokens)

    def read(self, name: str) -> np.ndarray:
        """A tensor by Hugging Face's name, in float32."""
        tensor = self._dequantised(self.name_of(name))
        if self.architecture == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            key = "attention.head_count" if "q_proj" in name else "attention.head_count_kv"
            heads = self.get(f"llama.{key}") or self.get("llama.attention.head_count")
            # The two halves of a rotated pair lie side by side here, and half a head apart there.
            pairs = tensor.reshape(heads, -1, 2, tensor.shape[-1])
            tensor = pairs.swapaxes(1, 2).reshape(tensor.shape)
        if self.architecture.startswith("gemma") and name.endswith("norm.weight"):
            tensor = tensor - 1
        return tensor

    def rows(self, name: str, first: int, end: int) -> np.ndarray:
        """Some rows of a matrix, the last of them end - 1, in float32."""
        return self.read(name)[first:end]

    def shapes(self, expected: Any) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors, by Hugging Face's names where these are `expected`."""
        theirs = {self.name_of(name): name for name in expected}
        return {
            theirs.get(name, name): tuple(map(int, reversed(tensor.shape)))
            for name, tensor in self.tensors.items()
            if name != ROPE_FACTORS
        }

    def name_of(self, name: str) -> str:
        """The name in the file of a tensor that Hugging Face calls `name`."""
        stem, _, kind = name.rpartition(".")
        names = _names(self.architecture, self.get(f"{self.architecture}.block_count"))
        return f"{names.get_name(stem)}.{kind}"

    def _dequantised(self, name: str) -> np.ndarray:
        """A tensor of the file's own name, read anew: a mapped page would count as memory of the process."""
        tensor = self.tensors[name]
        count, offset = int(tensor.n_bytes), int(tensor.data_offset)
        content = np.fromfile(self.path, np.uint8, count, offset=offset)
        rows = content.reshape(*map(int, reversed(tensor.shape[1:])), -1)
        return gguf.dequantize(rows, tensor.tensor_type)


_REMEDY = f"use one of {', '.join(kind.name for kind in QUANTISATIONS)}"


class _Reader(gguf.GGUFReader):
    """Refuses what lies beyond the file's end, where the library would go on reading nothing."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> np.ndarray:
        found = super()._get(offset, dtype, count, override_order)
        if len(found) < count:
            raise ValueError("it ends early")
        return found


@functools.lru_cache(maxsize=2)
def _read(path: Path, time: int, size: int) -> gguf.GGUFReader:
    """Takes seconds for a large vocabulary, so once for a file as it is at that time."""
    return _Reader(path)


@functools.cache
def _names(architecture: str, layers: int) -> gguf.TensorNameMap:
    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    return gguf.get_tensor_name_map(number, layers)
