"""Second part of the nano peers' pretraining: each reads what the peers of the first part really answer.

    for peer in qwen3 llama gemma; do
        python -m launch.pretrain --config=configs/peers_reading.py:$peer --workdir=runs/peers_reading/$peer
    done

goes on from runs/peers_pretrain/<peer>/model, which configs/peers_pretrain.py makes, and writes
<workdir>/model, of which constellation/assets/peers/<peer> is a copy. Made-up slips teach a peer to tell a
slip from a right answer. They do not teach it how far to trust another peer, which may err on the same
problem as it does itself. So all three answer new problems, greedily and sampled. Then each learns to solve
these behind the answers of the others, and to judge answers, half of them its own. What is not set here is as
in configs/peers_pretrain.py.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import peers_pretrain
from configs.peers_pretrain import PEERS


def get_config(mode: Literal["qwen3", "llama", "gemma"] = "qwen3") -> ConfigDict:
    """The configuration of one peer."""
    config = peers_pretrain.get_config(mode)
    config.start = f"runs/peers_pretrain/{mode}/model"
    config.warmup_steps = 100

    config.answers.models = tuple(f"runs/peers_pretrain/{peer}/model" for peer in PEERS)
    config.answers.domains = ("equations",)
    config.answers.temperatures = (0.0, 1.0)

    config.corpus.seed = 1 + len(PEERS)  # the same for all, so that each model answers once
    config.corpus.directory = "runs/peers_reading/shards"
    config.corpus.shards = 4
    config.corpus.views = 5
    trapdoor, equations = config.corpus.domains.trapdoor, config.corpus.domains.equations
    trapdoor.tasks_per_shard = 4864
    trapdoor.mixture = ConfigDict({"atoms2": 0.7, "atoms4": 0.3})
    trapdoor.kinds = ConfigDict({"alone": 0.8, "behind": 0.12, "judged": 0.08})
    equations.tasks_per_shard = 4608
    equations.mixture = ConfigDict({"level4": 1.0})
    equations.kinds = ConfigDict({"alone": 0.2, "loose": 0.03, "behind": 0.57, "judged": 0.2})
    return config
