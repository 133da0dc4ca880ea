"""What a study of peers takes: memory of each peer against the budget, and hours a stage."""

from __future__ import annotations

from ml_collections import ConfigDict

from constellation.conductor import PlannedStages, Stage
from constellation.domains.domain import load_domain
from constellation.experiments.config import base_directories, with_base
from constellation.experiments.peers.check import check_peers
from constellation.experiments.peers.graph import graph
from constellation.experiments.plan import SPEEDS, Plan, Speed, check_fits, print_footprints
from constellation.experiments.study import Study


class PeersPlan:
    """A study of peers that has not been run.

    Attributes:
        plans: directory of a model -> its memory, workload, batch sizes and stages.
    """

    def __init__(self, config: ConfigDict, platform: str):
        """Plans a (checked) config. Raises UserError: it does not fit its budget."""
        self.config, self.platform = config, platform
        directories, earlier = list(dict.fromkeys(base_directories(config))), len(config.peers.models) - 1
        stages = planned_stages(config)
        self.plans = {}
        for directory in directories:
            others = [] if config.peers.one_at_a_time else [each for each in directories if each != directory]
            fitting = check_fits(with_base(config, directory), platform, earlier, others)
            self.plans[directory] = Plan(*fitting, {directory: stages[directory]})

    def seconds(self, speed: Speed) -> dict[str, float]:
        """Stage -> how long a device takes."""
        return {
            stage.name: plan.seconds(stage.work, self.config, speed)
            for directory, plan in self.plans.items()
            for stage in plan.stages[directory]
        }

    def schedule(self) -> dict[str, float]:
        """Likewise on a typical device, to say how far a running study is."""
        return self.seconds(SPEEDS[self.platform])


def planned_stages(config: ConfigDict) -> dict[str, list[Stage]]:
    """Directory of a model -> the stages that compute with it, in the order in which they run."""
    conductor, directories = PlannedStages(), base_directories(config)
    graph(Study(config, conductor, load_domain(config.domain), directories))  # which stand for their hashes
    stages: dict[str, list[Stage]] = {directory: [] for directory in directories}
    for name, recipe in conductor.recipes.items():
        if model := recipe["fields"].get("model"):
            stages[model["hash"]].append(conductor.stages[name])
    return stages


def print_peers_plan(config: ConfigDict, platform: str, speed: Speed) -> None:
    """Prints the plan of a study of peers.

    Raises:
        UserError: a config that is not allowed, or that does not fit its budget.
    """
    check_peers(config)
    found = PeersPlan(config, platform)
    for directory, plan in found.plans.items():
        print_footprints(config, directory, plan.footprints, platform)
        load = plan.workload
        print(f"prompts of {load.prefix} shared + {load.prompt:.0f} tokens, answers of {load.answer:.0f}\n")
    budget, held = config.memory.budget_gib, "one base" if config.peers.one_at_a_time else "all bases"
    print(
        f"budget: {budget:.1f} GiB" if budget else "budget: none (memory.budget_gib = 0)",
        f"({held} at a time)",
    )
    print(f"at {speed.bandwidth / 1e9:.0f} GB/s and {speed.matmul / 1e12:.2f} TFLOP/s reached")
    seconds = found.seconds(speed)
    for model in ("before", *config.arms):
        own = [hours for name, hours in seconds.items() if f"_{model}_" in f"_{name}_"]
        print(f"{model:36}{f'{len(own)} stages':>36}{sum(own) / 3600:10.3f} h")
    print(f"{'all':36}{f'{len(seconds)} stages':>36}{sum(seconds.values()) / 3600:10.3f} h")
