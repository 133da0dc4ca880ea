""""Peer-Predictive Self-Training" with two real pretrained models that anyone can fetch, in miniature.

    python -m launch.get_model --name=smollm2-135m-instruct --out=models/smollm2-135m-instruct
    python -m launch.get_model --name=gemma-3-270m --out=models/gemma-3-270m --accept_license
    python -m launch.experiment --config=configs/peers_pretrained.py --workdir=runs/peers_pretrained

Both answer ten problems one after the other and are trained on them once, in a quarter of an hour on two
cores: it shows that the whole round runs on weights that are not this project's. Expected: neither model
gives an answer that is right, before or after. What is not set here is as in configs/peers_nano.py.
"""

from ml_collections import ConfigDict

from configs import peers_nano


def get_config() -> ConfigDict:
    """The configuration."""
    config = peers_nano.get_config()
    config.trajectories = 1
    config.model.quantization = ""
    config.prompt.description = True  # the domain's system message
    config.tasks.bank = "easy"
    config.tasks.bank_size = 4
    config.sampling.max_new_tokens = 48
    config.training.batch_size = 5
    config.peers.models = "models/smollm2-135m-instruct", "models/gemma-3-270m"
    config.peers.seeds = (0, 0)
    config.peers.rounds = 1
    config.peers.problems = 10
    config.peers.level = 1
    config.peers.learns_last = True  # or of ten problems half teach nothing
    config.peers.learning_rate = 2e-4
    config.arms = ("pst", "untrained")
    config.evaluation.samples = 4
    config.evaluation.resamples = 1_000
    return config
