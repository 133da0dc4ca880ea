"""Second part of the nano peers' pretraining: each reads what the others really answer, in two turns.

    for turn in 1 2; do
        for peer in qwen3 llama gemma; do
            python -m launch.pretrain --config=configs/peers_reading.py:${peer}_$turn \
                --workdir=runs/peers_reading_$turn/$peer
        done
    done

The first turn goes on from runs/peers_pretrain/<peer>/model, which configs/peers_pretrain.py makes, the
second from the first; constellation/assets/peers/<peer> is a copy of runs/peers_reading_1/<peer>/model.
Made-up slips teach a peer to tell a slip from a right answer. They do not teach it how far to trust another
peer, which may err on the same problem as it does itself. So all three answer new problems, greedily and
sampled. Then each learns to solve these behind the answers of the others, and to judge answers, half of them
its own. The second turn is nearly all about that, on hard problems and mostly behind two answers. What is not
set here is as in configs/peers_pretrain.py.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import peers_pretrain
from configs.peers_pretrain import PEERS

MODES = Literal["qwen3_1", "llama_1", "gemma_1", "qwen3_2", "llama_2", "gemma_2"]


def get_config(mode: MODES = "qwen3_1") -> ConfigDict:
    """The configuration of one peer's turn."""
    peer = next(each for each in PEERS if mode.startswith(each))
    turn = mode.removeprefix(f"{peer}_")
    config = peers_pretrain.get_config(peer)
    before = "runs/peers_pretrain" if turn == "1" else "runs/peers_reading_1"
    config.start = f"{before}/{peer}/model"
    config.warmup_steps = 100

    config.answers.models = tuple(f"{before}/{each}/model" for each in PEERS)
    config.answers.domains = ("equations",)
    config.answers.temperatures = (0.0, 1.0)

    config.corpus.seed = len(PEERS) + int(turn)  # the same for all, so that each model answers once
    config.corpus.directory = f"runs/peers_reading_{turn}/shards"
    trapdoor, equations = config.corpus.domains.trapdoor, config.corpus.domains.equations
    trapdoor.mixture = ConfigDict({"atoms2": 0.7, "atoms4": 0.3})
    trapdoor.kinds = ConfigDict({"alone": 0.8, "behind": 0.12, "judged": 0.08})
    equations.tasks_per_shard = 4608
    if turn == "1":
        config.corpus.shards, config.corpus.views = 4, 5
        trapdoor.tasks_per_shard = 4864
        equations.mixture = ConfigDict({"level4": 1.0})
        equations.kinds = ConfigDict({"alone": 0.2, "loose": 0.03, "behind": 0.57, "judged": 0.2})
    else:
        config.corpus.shards, config.corpus.views = 3, 6
        trapdoor.tasks_per_shard = 1024
        equations.mixture = ConfigDict({"hard": 1.0})
        equations.kinds = ConfigDict({"alone": 0.12, "loose": 0.01, "behind": 0.72, "judged": 0.15})
        equations.earlier = ConfigDict({"1": 0.2, "2": 0.8})
    return config
