"""The study with the replicates and controls that peer review would ask for, on the embedded nano model.

    python -m launch.experiment --config=configs/nano_full.py --workdir=runs/nano_full

Eight trajectories, each with its own warm start, tasks and draws, as one program vmapped over their adapters.
Expected, on the hard bank: gen_v0 at 60.5 / 78.6 % pass@8 / pass@64 and v3 at 60.8 / 76.2; crossover and
deceleration inconclusive, the critic's gain not supported; the curves cross at k = 10 [5, 24], and reach in
1,024 samples falls by 2.2 points. 3.6 million samples, most of the hard bank: of the others 32 a task,
controls, temperatures and variants in three trajectories. It took 2 hours 10 minutes on two cores that
multiply matrices at 167 GFLOP/s, in the first forty of which other processes ran.
`configs/nano_full.py:quick` is the same graph in miniature, in 8 to 16 minutes. What is not set here is as in
configs/nano.py; none of it was chosen by the sign of a claimed effect.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import nano


def get_config(mode: Literal["", "quick"] = "") -> ConfigDict:
    """The configuration; mode "quick" shrinks it."""
    config = replicated(nano.get_config(mode))
    config.seed = config.tasks.seed = 3  # no result of configs/nano.py is seen again
    if mode == "quick":
        config.trajectories = config.controls.trajectories = config.temperature.trajectories = 2
        config.critics.trajectories = 1
        config.evaluation.samples = config.null.samples = 32
        config.selection.samples = config.selection.tuning_samples = 16
        config.controls.samples = 32
        config.temperature.samples = 32
        config.temperature.tuning_samples = 8
        return config
    config.critic.tasks = 2048  # as many as a round has; 4096 take 20 minutes more
    config.temperature.matching = (0.5,)  # nano is sharpened less than by 0.7
    return config


def replicated(config: ConfigDict) -> ConfigDict:
    """A study's config with replicates and every question but the arm and another base, of any base."""
    config.questions = ("selectors", "controls", "null", "reach", "temperature", "critics")
    config.trajectories = 8  # (A) 4
    config.star.rounds = 3  # (A) 2
    config.evaluation.samples = 256
    config.evaluation.other_samples = 32
    config.evaluation.middle_samples = 32
    config.selection.samples = 32
    config.null.samples = 256
    config.controls.trajectories = 3
    config.temperature.trajectories = 3
    config.temperature.tuning_samples = 64  # the best temperature is chosen for every k of the curves
    config.critics.trajectories = 3
    return config
