"""Second part of the nano peers' pretraining: each reads what the others really answer, in four turns.

    for turn in 1 2 3 4; do
        for peer in qwen3 llama gemma; do
            python -m launch.pretrain --config=configs/peers_reading.py:${peer}_$turn \
                --workdir=runs/peers_reading_$turn/$peer
        done
    done

The first turn goes on from runs/peers_pretrain/<peer>/model, which configs/peers_pretrain.py makes, each
later one from the turn before; constellation/assets/peers/<peer> is a copy of
runs/peers_reading_4/<peer>/model.

Made-up slips teach a peer to tell a slip from a right answer. They do not teach it how far to trust another
peer, which may err on the same problem as it does itself. So all three answer new problems, greedily and
sampled. Then each learns to solve these behind the answers of the others, and to judge answers, half of them
its own. The second turn is nearly all about that, mostly behind two answers, but leaves level 1 out, which
the peers then forget in part. So the third turn is of every level, with problems alone, and brings level 5.
The fourth is as the second, of every level, and most of all of the last two. What is not set here is as in
configs/peers_pretrain.py.
"""

from typing import Literal, NamedTuple

from ml_collections import ConfigDict

from configs import peers_pretrain
from configs.peers_pretrain import PEERS

MODES = Literal[
    "qwen3_1", "llama_1", "gemma_1", "qwen3_2", "llama_2", "gemma_2",
    "qwen3_3", "llama_3", "gemma_3", "qwen3_4", "llama_4", "gemma_4",
]  # fmt: skip


class Turn(NamedTuple):
    """A turn: its shards, how often it views each, tasks of trapdoor in one, and what equations are like."""

    shards: int
    views: int
    programs: int
    mixture: dict[str, float]
    kinds: dict[str, float]


READING = {"alone": 0.12, "loose": 0.01, "behind": 0.72, "judged": 0.15}
TURNS = (
    Turn(4, 5, 4864, {"level4": 1.0}, {"alone": 0.2, "loose": 0.03, "behind": 0.57, "judged": 0.2}),
    Turn(3, 6, 1024, {"level2_to_4": 1.0}, READING),
    Turn(2, 4, 512, {"level5": 0.6, "level4_to_5": 0.4}, {"alone": 0.8, "loose": 0.02, "judged": 0.18}),
    Turn(4, 5, 512, {"level5": 0.5, "level4_to_5": 0.5}, READING),
)
VIEWS = {"llama_4": 4}  # it learns fastest, and peers of like strength have most to gain from one another


def get_config(mode: MODES = "qwen3_1") -> ConfigDict:
    """The configuration of one peer's turn."""
    peer = next(each for each in PEERS if mode.startswith(each))
    number = int(mode.removeprefix(f"{peer}_"))
    turn = TURNS[number - 1]
    config = peers_pretrain.get_config(peer)
    before = f"runs/peers_reading_{number - 1}" if number > 1 else "runs/peers_pretrain"
    config.start = f"{before}/{peer}/model"
    config.warmup_steps = 100

    if "behind" in turn.kinds:
        config.answers.models = tuple(f"{before}/{each}/model" for each in PEERS)
        config.answers.domains = ("equations",)
        config.answers.temperatures = (0.0, 1.0)

    config.corpus.seed = len(PEERS) + number  # the same for all, so that each model answers once
    config.corpus.directory = f"runs/peers_reading_{number}/shards"
    config.corpus.shards, config.corpus.views = turn.shards, VIEWS.get(mode, turn.views)
    trapdoor, equations = config.corpus.domains.trapdoor, config.corpus.domains.equations
    trapdoor.tasks_per_shard = turn.programs
    trapdoor.mixture = ConfigDict({"atoms2": 0.7, "atoms4": 0.3})
    trapdoor.kinds = ConfigDict({"alone": 0.8, "behind": 0.12, "judged": 0.08})
    equations.tasks_per_shard = 4608
    equations.mixture, equations.kinds = ConfigDict(turn.mixture), ConfigDict(turn.kinds)
    if turn.kinds == READING:
        equations.earlier = ConfigDict({"1": 0.2, "2": 0.8})
    return config
