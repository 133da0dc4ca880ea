"""The study of "Peer-Predictive Self-Training" on three shipped nano peers, without labels.

    python -m launch.experiment --config=configs/peers_nano.py --workdir=runs/peers_nano

Values marked (B) are stated by the paper's abstract, (B2) by a summary of it, (ours) our reconstruction where
it is silent. They were fixed before any problem of the bank was looked at; the peers' levels were read on
problems of the tuning role alone.

Expected, in about 33 minutes on two cores: a mean exact match of 44.4 % before and 42.9 % after PST, 43.2 %
at w = 1, 41.0 % self-only and 38.6 % on the majority's answer. That it rises is not supported, that PST beats
the majority's answer is, and the other two claims are inconclusive. `configs/peers_nano.py:quick`, with
two of the peers, takes two minutes and is too small to find anything.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import nano


def get_config(mode: Literal["", "quick"] = "") -> ConfigDict:
    """The configuration; mode "quick" shrinks it."""
    star = nano.get_config()
    config = ConfigDict()
    config.seed = 5

    config.trajectories = 4  # (B2) ten; independent replicates of all training

    config.domain = "equations"  # (B) SimulEq, Math500 and MultiArith

    config.model = ConfigDict()  # of every peer
    config.model.quantization = "int4:32"  # (ours)
    config.model.dtype = "float32"  # (ours)

    config.mesh, config.memory, config.prompt, config.lora = star.mesh, star.memory, star.prompt, star.lora

    config.tasks = ConfigDict()
    config.tasks.seed = 5
    config.tasks.bank = "hard"
    config.tasks.bank_size = 200
    config.tasks.visible = 2  # examples a prompt shows, where tasks have several
    config.tasks.split_seed = 1234

    config.sampling = star.sampling
    config.sampling.temperature = 1.0  # (ours)
    config.sampling.max_new_tokens = 96

    config.training = star.training

    config.peers = ConfigDict()
    config.peers.models = tuple(f"constellation/assets/peers/{peer}" for peer in ("qwen3", "llama", "gemma"))
    config.peers.seeds = (0, 0, 0)  # tells peers of one directory apart
    config.peers.one_at_a_time = False  # whether one base is held in memory at a time; changes no result
    config.peers.rounds = 2  # (ours)
    config.peers.problems = 512  # (ours) a round, of each trajectory
    config.peers.level = 5  # (ours) the highest
    config.peers.reference = "last"  # (B2) the last answer; or "majority"
    config.peers.scorer = "self"  # (ours) an answer's own peer; "last"; or the directory of a third model
    config.peers.per_token = True  # (ours) PMI divided by the reference's tokens
    config.peers.tau = 0.04  # (ours) the deviation of PMI on tuning problems; w = sigmoid(-PMI / tau) is (B2)
    config.peers.target = "own"  # (B2) what is weighted: a peer's own answer; or "reference"
    config.peers.learns_last = False  # (B) intermediate responses are updated: the last model is left out
    config.peers.restart = "continue"  # (ours) from the last round; or "base"
    config.peers.passes = 1  # (ours) over the round's problems; passes * problems / batch_size updates
    config.peers.learning_rate = 1e-3  # (ours)

    # Beside PST: see `selftraining.peers.ARMS` for all of them.
    config.arms = ("pst", "uniform", "self_only", "majority", "untrained")

    config.evaluation = ConfigDict()
    config.evaluation.samples = 16  # a problem of the bank
    config.evaluation.quantiles = (0.7, 0.8)  # of a problem's answers, what self-verification has to reach
    config.evaluation.thresholds = (0.7, 0.8)  # likewise p(yes), for all problems alike
    config.evaluation.seed = 0
    config.evaluation.resamples = 10_000
    config.evaluation.margin = 0.01  # smallest effect of interest, as a share of problems

    if mode == "quick":
        config.trajectories = 2
        config.tasks.bank_size = 16
        config.peers.models, config.peers.seeds = config.peers.models[:2], config.peers.seeds[:2]
        config.peers.rounds = 1
        config.peers.problems = 32
        config.arms = ("pst", "untrained")
        config.evaluation.samples = 4
        config.evaluation.resamples = 1_000
    return config
