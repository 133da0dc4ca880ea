"""The families of dense decoders that the one layer body in `decoder` can be: a row of the table each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

# Fields of config.json that cannot change what any forward pass computes.
INERT = frozenset(
    "_attn_implementation_autoset _name_or_path architectures bos_token_id chunk_size_feed_forward dtype"
    " eos_token_id id2label initializer_range is_encoder_decoder label2id max_position_embeddings"
    " output_attentions output_hidden_states pad_token_id problem_type return_dict torch_dtype"
    " transformers_version use_cache".split()
)
NONE: Mapping[str, Any] = MappingProxyType({})


class Family(NamedTuple):
    """What its members have in common.

    Attributes:
        architecture: Hugging Face's class.
        biases: the projections that add a bias.
        qk_norm: whether each head's query and key are normed before they are rotated.
        centred_norms: whether a norm multiplies by 1 + its weight, and in float32.
        post_norms: whether what attention and MLP give is normed, too, before it is added.
        gelu: whether the MLP's gate is a GELU (tanh approximation), not a SiLU.
        scaled_embedding: whether embeddings are multiplied by sqrt(hidden_size).
        honoured: the fields of `ModelConfig` that its config.json may have beside those of all families.
        derived: fields that follow from others where they are left out.
        global_every: every so-manieth layer attends to everything, the others to a window; 0 where all do.
        period: the field that may say otherwise.
        defaults: what transformers takes for a field that is left out.
        fixed: fields that could change what is computed; only this value, or these, are implemented.
        inert: more fields that cannot.
    """

    architecture: str
    biases: tuple[str, ...] = ()
    qk_norm: bool = False
    centred_norms: bool = False
    post_norms: bool = False
    gelu: bool = False
    scaled_embedding: bool = False
    honoured: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()
    global_every: int = 0
    period: str = ""
    defaults: Mapping[str, Any] = NONE
    fixed: Mapping[str, Any] = NONE
    inert: frozenset[str] = frozenset()


_PLAIN = {"attention_bias": False, "attention_dropout": 0.0}
_SILU = {"hidden_act": "silu", "mlp_bias": False}
_QWEN: dict[str, Any] = {
    "fixed": _PLAIN | _SILU | {"use_sliding_window": False},
    "inert": frozenset({"max_window_layers", "sliding_window"}),
}
_GEMMA: dict[str, Any] = {
    "centred_norms": True,
    "post_norms": True,
    "gelu": True,
    "scaled_embedding": True,
    # hidden_activation and sliding_window are what counts
    "inert": frozenset(
        {"_sliding_window_pattern", "cache_implementation", "hidden_act", "sliding_window_size"}
    ),
}
_GEMMA_FIELDS = frozenset({"query_pre_attn_scalar", "final_logit_softcapping", "sliding_window"})
_GEMMA_FIXED = _PLAIN | {
    "hidden_activation": "gelu_pytorch_tanh",
    "use_bidirectional_attention": (None, False),
}
_GEMMA_DEFAULTS = {"tie_word_embeddings": True, "query_pre_attn_scalar": 256, "sliding_window": 4096}

# model_type of config.json -> the family.
FAMILIES = {
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, **_QWEN),
    "qwen2": Family(  # Qwen2.5, too
        "Qwen2ForCausalLM",
        biases=("q_proj", "k_proj", "v_proj"),
        derived=frozenset({"head_dim"}),
        fixed=_QWEN["fixed"] | {"attention_bias": True, "use_mrope": False},
        inert=_QWEN["inert"],
    ),
    "llama": Family(  # Llama 2 and 3, SmolLM2
        "LlamaForCausalLM",
        derived=frozenset({"head_dim", "num_key_value_heads"}),
        defaults={"rope_theta": 1e4},
        fixed=_PLAIN | _SILU | {"pretraining_tp": 1, "rope_interleaved": False},
        inert=frozenset({"is_llama_config", "transformers.js_config"}),
    ),
    "gemma2": Family(
        "Gemma2ForCausalLM",
        honoured=_GEMMA_FIELDS | {"attn_logit_softcapping"},
        global_every=2,
        defaults={
            **_GEMMA_DEFAULTS,
            "rope_theta": 1e4,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        fixed=_GEMMA_FIXED,
        **_GEMMA,
    ),
    "gemma3_text": Family(
        "Gemma3ForCausalLM",
        qk_norm=True,
        honoured=_GEMMA_FIELDS | {"rope_local_base_freq"},
        global_every=6,
        period="sliding_window_pattern",
        defaults=_GEMMA_DEFAULTS | {"rope_theta": 1e6, "rope_local_base_freq": 1e4},
        fixed=_GEMMA_FIXED | {"attn_logit_softcapping": None},
        **_GEMMA,
    ),
}
