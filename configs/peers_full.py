"""The study of peers with the replicates and every control, on the nano peers and both domains.

    python -m launch.experiment --config=configs/peers_full.py --workdir=runs/peers_full
    python -m launch.experiment --config=configs/peers_full.py:programs --workdir=runs/peers_full_programs

Ten trajectories as in the paper. The first command is about equations, the second about programs of the
trapdoor domain, of which greedy answers of the peers solve 3 to 14 % of the easy ones. What is not set here
is as in configs/peers_nano.py.

Expected of the first, in two hours and a quarter on two cores: a mean exact match of 46.6 % before and 44.9 %
after PST, 44.9 % at w = 1, 43.7 % self-only, 42.5 % on the majority's answer, 47.4 % on own answers that
equal it and 48.6 % on those that are right. That it rises and that the weights help is not supported; that
the gap falls by more than self-only's and that PST beats the majority's answer is.
Of the second, in an hour and a quarter: 4.9 % before and 4.7 % after PST, no arm more than 0.7 points from
where it began, and none of the four claims supported.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import peers_nano


def get_config(mode: Literal["", "programs"] = "") -> ConfigDict:
    """The configuration; mode "programs" is of the other domain."""
    config = peers_nano.get_config()
    config.seed = config.tasks.seed = 6  # no result of configs/peers_nano.py is seen again
    config.trajectories = 10  # (B2)
    config.tasks.bank_size = 100  # of ten trajectories: more answers in all than in configs/peers_nano.py
    config.arms = (
        "pst", "uniform", "inverted", "shuffled", "self_only", "format_only", "consensus", "majority",
        "oracle", "untrained",
    )  # fmt: skip
    if mode == "programs":
        config.domain = "trapdoor"
        config.tasks.bank, config.peers.level = "easy", 3  # of the hard ones the peers solve next to none
        config.sampling.max_new_tokens = 40
        config.peers.problems = 256  # half as many: both studies together then take few hours
    return config
