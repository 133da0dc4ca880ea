"""The three findings on a hard bank of 1,000 tasks: what 200 of them leave open in configs/nano_full.py.

    python -m launch.experiment --config=configs/nano_power.py --workdir=runs/nano_power

There the variance of a change of pass@k lies with the tasks and the samples, hardly with the trajectories:
four of those, on five times the tasks, see a change of pass@8 of 1.7 points four times in five instead of
one of 2.3. Every model answers the bank under two split seeds, so that what is found at k = 64 is not one
split's. The hard bank alone, three rounds as there, no controls. Expected, in an hour on two cores: from
gen_v0 to v3 pass@8 moves by +0.3 and pass@64 by -2.4 points; crossover inconclusive, deceleration
inconclusive, critic gain not supported.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import nano


def get_config(mode: Literal["", "quick"] = "") -> ConfigDict:
    """The configuration; mode "quick" shrinks it."""
    config = nano.get_config(mode)
    config.seed = config.tasks.seed = 6  # no result of another config is seen again
    config.trajectories = 4  # (A)
    config.tasks.banks = ("hard",)  # the findings are read there
    config.star.rounds = 3  # as in configs/nano_full.py
    config.questions = ()
    config.evaluation.split_seeds = (1234, 1)
    config.evaluation.middle_samples = 32
    config.selection.split_seeds = (1234, 1)
    if mode == "quick":
        config.trajectories = 2
        return config
    config.tasks.bank_size = 1000
    return config
