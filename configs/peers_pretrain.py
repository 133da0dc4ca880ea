"""Pretraining of the nano peers: three bases of three families, of one recipe, on equations and programs.

    for peer in qwen3 llama gemma; do
        python -m launch.pretrain --config=configs/peers_pretrain.py:$peer --workdir=runs/peers_pretrain/$peer
    done

writes each, in Hugging Face's format, to <workdir>/model, from where configs/peers_reading.py goes on. Each
has its own family, tokenizer, chat template, seed and order of the data. They see problems alone, behind one
or two earlier answers of which half are wrong, and answers to judge: that a peer reads others, and says
whether an answer is right, is no new skill when they train one another.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import nano_pretrain

Peer = Literal["qwen3", "llama", "gemma"]
PEERS: tuple[Peer, ...] = ("qwen3", "llama", "gemma")


def get_config(mode: Peer = "qwen3") -> ConfigDict:
    """The configuration of one peer's pretraining."""
    config = nano_pretrain.get_config()
    config.style = mode  # the peer
    config.seed = config.corpus.seed = 1 + PEERS.index(mode)
    config.model.num_hidden_layers = 4
    config.model.intermediate_size = 256
    config.model.model_type = {"gemma": "gemma3_text"}.get(mode, mode)
    if mode == "gemma":
        config.model.family.query_pre_attn_scalar = 32
        config.model.family.rope_local_base_freq = 10_000.0
        config.model.family.sliding_window = 128
        config.model.family.layer_types = ("sliding_attention",) * 3 + ("full_attention",)

    kinds = {"alone": 0.55, "loose": 0.05, "behind": 0.25, "judged": 0.15}  # see nano/documents.py
    config.corpus.shards = 8
    config.corpus.views = 2
    trapdoor, equations = config.corpus.domains.trapdoor, ConfigDict()
    config.corpus.domains.equations = equations
    trapdoor.tasks_per_shard = 9216
    trapdoor.mixture = ConfigDict({"atoms2": 0.6, "atoms4": 0.4})
    equations.tasks_per_shard = 11264
    equations.mixture = ConfigDict({"level2": 0.3, "level4": 0.7})
    equations.visible = ConfigDict({"1": 1.0})
    equations.earlier = trapdoor.earlier
    trapdoor.kinds, equations.kinds = ConfigDict(kinds), ConfigDict(kinds)
    return config
