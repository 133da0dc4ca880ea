"""The study of "Teacher-Free Self-Training Amplifies but Does Not Compound" at the paper's size: Qwen3-4B.

    python -m launch.experiment --config=configs/qwen3_4b.py --workdir=runs/qwen3_4b \\
        --config.model.dir=<directory>

The directory is Hugging Face's, or the same ported by `launch.port_weights --quantization=int4:128`. Expected
figures are the paper's (hard bank): pass@8 38.0 -> 46.0 and pass@64 57.5 -> 52.5 from gen_v0 to v2, critic
- naive pick +9.1 points.

Every value is marked: (A) stated by the paper or a summary of it, (ours) our reconstruction where the
paper is silent or could not be read. None was chosen by the sign of a claimed effect.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The configuration."""
    config = ConfigDict()
    config.seed = 2  # (ours)

    config.trajectories = 1  # (ours) the paper has 4; each adds its own adapters, tasks and samples

    config.domain = "trapdoor"  # (A)

    config.model = ConfigDict()
    config.model.dir = "models/Qwen3-4B-Instruct-2507"  # (A) the model; the directory is yours
    config.model.quantization = "int4:128"  # (A) 4 bit; (ours) groups of 128, symmetric
    config.model.dtype = "bfloat16"  # (ours)

    config.mesh = ConfigDict()  # (ours) changes no draw, and logits by rounding
    config.mesh.data = 1  # (ours) slices of devices, each with the whole model and its share of the work
    config.mesh.model = 1  # (ours) devices of a slice, among which the model is divided

    config.memory = ConfigDict()
    config.memory.budget_gib = 22.0  # (ours) of a 24 GB card; decides batch sizes, and changes no draw

    config.prompt = ConfigDict()
    config.prompt.description = True  # (ours) the language is described in the system message
    config.prompt.thinking = False  # (ours)

    config.tasks = ConfigDict()
    config.tasks.seed = 2  # (ours)
    config.tasks.banks = ("easy", "hard", "withheld")  # (A) the first two; (ours) the third
    config.tasks.bank_size = 200  # (A)
    config.tasks.visible = 2  # (A)
    config.tasks.split_seed = 1234  # (A) for pass@64

    config.sampling = ConfigDict()
    config.sampling.temperature = 1.0  # (ours) the published default of 0.7 with top-k would cap pass@64
    config.sampling.top_k = 0  # (ours)
    config.sampling.top_p = 1.0  # (ours)
    config.sampling.max_new_tokens = 192  # (ours) a program of four atoms takes about 60
    config.sampling.int8_kv = False  # (ours)

    config.lora = ConfigDict()
    config.lora.rank = 16  # (A)
    config.lora.alpha = 32.0  # (ours)

    config.training = ConfigDict()
    config.training.batch_size = 32  # (ours)
    config.training.learning_rate = 2e-4  # (ours) of the warm start and the critic
    config.training.clip_norm = 1.0  # (ours)
    config.training.weight_decay = 0.0  # (ours)
    config.training.remat = True  # (ours) layers recomputed in the backward; changes no result
    config.training.checkpoint_every = 20  # (ours) changes no result

    config.warm_start = ConfigDict()  # (ours) supervised, on secret programs
    config.warm_start.tasks = 2048  # (ours)
    config.warm_start.max_atoms = 3  # (A)
    config.warm_start.passes = 1  # (ours)

    config.star = ConfigDict()
    config.star.rounds = 2  # (A)
    config.star.tasks = 2048  # (ours)
    config.star.samples = 8  # (ours)
    config.star.max_atoms = 3  # (ours)
    config.star.learning_rate = 2e-4  # (ours)
    config.star.restart = "gen_v0"  # (ours)
    config.star.keep = 1  # (ours)
    config.star.passes = 1  # (ours)
    config.star.arm_max_atoms = 0  # (ours)

    config.critic = ConfigDict()
    config.critic.tasks = 2048  # (ours)
    config.critic.max_atoms = 4  # (ours)
    config.critic.samples = 8  # (A) k candidates
    config.critic.passes = 1  # (ours)
    config.critic.selectors = True  # (ours) beside likelihood, votes and a critic shown no examples
    config.critic.model_dir = ""  # (ours) another base, a critic on which joins the variants

    config.evaluation = ConfigDict()
    config.evaluation.samples = 128  # (ours) a task of the hard bank, twice the largest k
    config.evaluation.other_samples = 128  # (ours) of the other banks
    config.evaluation.middle_samples = 128  # (ours) of every bank, by the rounds before the last
    config.evaluation.split_seeds = (1234,)  # (A) of the hard bank's pass@k, tasks.split_seed among them
    config.evaluation.small_k = 8  # (A)
    config.evaluation.large_k = 64  # (A)
    config.evaluation.selection_split_seeds = (1234, 1, 2, 3, 4, 5)  # (A) six; (ours) which
    config.evaluation.selection_samples = 64  # (ours)
    config.evaluation.tuning_samples = 64  # (ours)
    config.evaluation.reach_samples = 0  # (ours) of each model, whose right programs reach knows; 0 for none
    config.evaluation.reach_budgets = (64, 1024, 16384)  # (ours)
    config.evaluation.reach_at = 1024  # (ours) samples at which expansion of reach is decided
    config.evaluation.seed = 0  # (ours)
    config.evaluation.resamples = 10_000  # (ours)
    config.evaluation.margin = 0.01  # (ours)
    config.evaluation.null_samples = 0  # (ours) of gen_v0 against itself; 128 would double the pool

    config.controls = ConfigDict()  # (ours) beside the first round
    config.controls.trajectories = 0  # (ours) the first so many have them; 0 leaves them out
    config.controls.samples = 128  # (ours) a task of the hard bank

    config.temperatures = ConfigDict()  # (ours) gen_v0 and the last round
    config.temperatures.trajectories = 0  # (ours) the first so many are sampled at them; 0 for none
    config.temperatures.compared = (0.7, 1.0, 1.4)  # (ours) 1.4 about undoes a sharpening by 0.7
    config.temperatures.matching = (0.35, 0.5)  # (ours) further ones at which gen_v0 answers tuning tasks
    config.temperatures.samples = 128  # (ours) a task of the hard bank
    config.temperatures.tuning_samples = 32  # (ours) a task

    config.variants = ConfigDict()  # (ours) of prompt and critic, for the selectors
    config.variants.trajectories = 0  # (ours) the first so many have them; 0 leaves them out
    config.variants.visible = (1, 2, 3, 4)  # (ours) examples shown, beside tasks.visible
    config.variants.samples = 64  # (ours) at each other number of visible examples
    return config
