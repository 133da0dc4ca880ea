"""Does the critic help once it has more to learn from? One study of the nano model at three numbers of tasks.

    python -m launch.sweep --config=configs/nano_critic.py --workdir=runs/nano_critic

The critic sees eight of gen_v0's programs for each of its tasks, once; here a quarter as many tasks as in
configs/nano.py, as many, and four times as many. No rounds, so crossover and deceleration are not measured.
It ends with runs/nano_critic/sweep.html, and has not been run and has no figures.
"""

from ml_collections import ConfigDict

from configs import nano


def get_config(mode: str = "") -> ConfigDict:
    """The study and the numbers of tasks; mode "quick" shrinks both."""
    config = ConfigDict()
    config.study = nano.get_config(mode)
    config.study.seed = config.study.tasks.seed = 5  # no result of another config is seen again
    config.study.trajectories = 4  # (A)
    config.study.tasks.banks = ("hard",)  # the findings are read there
    config.study.star.rounds = 0
    config.study.evaluation.selection_split_seeds = (1234, 1, 2)
    config.study.critic.selectors = True

    config.grid = ConfigDict()
    config.grid.critic = ConfigDict()
    config.grid.critic.tasks = (1024, 4096, 16384)

    if mode == "quick":
        config.study.trajectories = 1
        config.study.evaluation.selection_split_seeds = (1234,)
        config.grid.critic.tasks = (32, 64)
    return config
