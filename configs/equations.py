"""The study of "Teacher-Free Self-Training Amplifies but Does Not Compound" on a second free-verifier domain.

    python -m launch.experiment --config=configs/equations.py --workdir=runs/equations

Simultaneous equations and multi-step arithmetic, on the nano peer of the Qwen3 family, which was pretrained
on them. A question is right or wrong as it stands: what "fits" is an answer in the format that is asked for,
and the critic chooses among those. `configs/equations.py:quick` is the same in miniature. What is not set
here is as in configs/nano.py.
"""

from typing import Literal

from ml_collections import ConfigDict

from configs import nano


def get_config(mode: Literal["", "quick"] = "") -> ConfigDict:
    """The configuration; mode "quick" shrinks it."""
    config = nano.get_config(mode)
    config.domain = "equations"
    config.model.dir = "constellation/assets/peers/qwen3"
    config.tasks.banks = ("easy", "hard")
    config.sampling.max_new_tokens = 96
    config.warm_start.max_atoms = 4
    config.star.max_atoms = config.critic.max_atoms = 5
    config.selection.split_seeds = (1234,)  # a question is not divided
    config.questions = ()
    return config
