"""Pretraining of the nano base (theta0): a one-million-parameter Qwen3 on synthetic trapdoor tasks.

    python -m launch.pretrain --config=configs/nano_pretrain.py --workdir=runs/nano_pretrain

writes the model, in Hugging Face's format, to <workdir>/model, of which constellation/assets/nano/ is a copy,
and the curves of its loss to <workdir>/pretraining.png.
The corpus is wider than the banks: up to six atoms and, for 30 % of the tasks, the whole language.
"""

from typing import Literal

from ml_collections import ConfigDict


def get_config(mode: Literal["", "quick"] = "") -> ConfigDict:
    """The configuration; `:quick` makes a toy of it within a minute."""
    config = ConfigDict()
    config.style = "nano"  # of tokenizer and chat template
    config.seed = 0
    config.start = ""  # a directory, the model to go on from; "" for fresh weights

    config.model = ConfigDict()
    config.model.model_type = "qwen3"
    config.model.hidden_size = 128
    config.model.num_hidden_layers = 6
    config.model.num_attention_heads = 4
    config.model.num_key_value_heads = 2
    config.model.head_dim = 32
    config.model.intermediate_size = 384
    config.model.rope_theta = 10_000.0
    config.model.family = ConfigDict()  # what this family alone has

    config.corpus = ConfigDict()
    config.corpus.seed = 0
    config.corpus.directory = ""  # where its shards lie; "" for <workdir>/shards
    config.corpus.shards = 7
    config.corpus.views = 3  # every task is seen this often, each time through other visible examples
    config.corpus.domains = ConfigDict()  # name -> what is drawn of it
    config.corpus.domains.trapdoor = ConfigDict()
    config.corpus.domains.trapdoor.tasks_per_shard = 7680
    config.corpus.domains.trapdoor.mixture = ConfigDict({"atoms4": 0.5, "atoms6": 0.2, "wide": 0.3})
    config.corpus.domains.trapdoor.visible = ConfigDict({"1": 0.05, "2": 0.75, "3": 0.15, "4": 0.05})
    config.corpus.domains.trapdoor.kinds = ConfigDict({"alone": 1.0})  # of documents, see nano/documents.py
    config.corpus.domains.trapdoor.earlier = ConfigDict({"1": 0.5, "2": 0.5})  # answers that others gave

    config.answers = ConfigDict()  # what models answer to the tasks, to be read and judged
    config.answers.models = ()  # directories
    config.answers.quantization = "int4:32"
    config.answers.domains = ()  # those whose tasks they answer; in others, earlier answers are made up
    config.answers.temperatures = (1.0,)  # of a shard's tasks, in turn
    config.answers.max_new_tokens = 96

    config.batch_size = 64
    config.learning_rate = 2e-3
    config.warmup_steps = 300
    config.weight_decay = 0.05
    config.clip_norm = 1.0
    config.output_weight = 0.1  # weight of the loss on the examples' outputs, against 1 on the program
    config.checkpoint_every = 500

    if mode == "quick":
        config.corpus.shards = 1
        config.corpus.domains.trapdoor.tasks_per_shard = 1024
        config.corpus.views = 1
        config.warmup_steps = 4
    return config
