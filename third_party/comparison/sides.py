"""The two implementations of what a study does with a model; adapters pass between them in peft's format."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from transformers import PreTrainedModel

from constellation.domains.task import Task
from constellation.experiments.study import Study
from constellation.model.lora import init_adapter, stack
from constellation.model.model import Generator
from constellation.model.peft_format import load_peft, save_peft
from constellation.model.sampling import SamplingConfig
from constellation.runtime.keys import Address
from constellation.runtime.progress import Progress
from constellation.samples import SampleSet
from constellation.selftraining.batches import TrainingExample
from constellation.selftraining.finetune import TrainingConfig, finetune, load_adapter
from constellation.solve import answers_of, draw_samples
from constellation.verifier import judge_samples
from third_party import model_reference, study_reference
from third_party.comparison.whole import multiply_out

PEFT = "peft"  # the directory of an adapter inside a stage


class Ours:
    """This implementation.

    Args:
        stages: of the study, for its config, model and memory.
    """

    name = "ours"

    def __init__(self, stages: Study):
        self.stages, self.config = stages, stages.config

    def draw(
        self, adapter: Path | None, tasks: Sequence[Task], sampling: SamplingConfig, address: Address
    ) -> SampleSet:
        """n judged samples a task.

        Args:
            adapter: the generator, in peft's format; None for the base.
            address: of the draws.
        """
        model = self.stages.base.model
        adapters = stack([load_peft(adapter, model.config)]) if adapter else None
        (drawn,) = draw_samples(
            Generator(model, adapters),
            self.stages.domain,
            [tasks],
            self.stages.split,
            sampling,
            address,
            self.stages.base.memory,
            address.arm,
            {},
        )
        return judge_samples(self.stages.domain, tasks, self.stages.split, drawn, address.arm)

    def train(
        self,
        start: Path | None,
        pool: Sequence[TrainingExample],
        updates: int,
        address: Address,
        directory: Path,
    ) -> None:
        """Trains an adapter and leaves it in directory/PEFT.

        Args:
            start: an adapter in peft's format; None for a fresh one.
            updates: optimizer steps.
            address: of the batches and of a fresh adapter.
            directory: of the stage.
        """
        model, lora, training = self.stages.base.model, self.config.lora, self.config.training
        if start is None:
            initial = init_adapter(model.config, address.key(), lora.rank, lora.alpha)
        else:
            initial = load_peft(start, model.config)
        rows = self.stages.base.memory.micro_batch(pool, training.batch_size, training.remat)
        settings = TrainingConfig(**training, micro_batch=rows)
        generator, metadata = Generator(model, stack([initial])), {"name": address.arm}
        finetune(generator, [pool], updates, settings, address, directory, metadata)
        trained, _ = load_adapter(directory)
        save_peft(directory / PEFT, model.config, trained, str(model.dir))


class Theirs:
    """transformers, peft and torch.optim in float32, on the weights that our quantised ones stand for.

    Prompts, verdicts and what a round keeps are ours; answers, gradients, steps and the order of the examples
    are not.
    """

    name = "torch"

    def __init__(self, stages: Study):
        self.stages, self.config = stages, stages.config

    @functools.cached_property
    def base(self) -> PreTrainedModel:
        """The frozen base, loaded when it is needed."""
        model = self.stages.base.model
        reference = model_reference.load(model.dir)
        multiply_out(reference, model.config, model.params)
        return reference

    def draw(
        self, adapter: Path | None, tasks: Sequence[Task], sampling: SamplingConfig, address: Address
    ) -> SampleSet:
        """As `Ours.draw`."""
        model = self.stages.base.model
        splits = [self.stages.split(task) for task in tasks]
        prompts = [model.chat(self.stages.domain.messages(of)) for of in splits]
        with Progress(address.arm, len(tasks) * sampling.n, "samples") as progress:
            drawn = study_reference.draw(
                self.base, adapter, prompts, model.stop_ids, sampling, _torch_seed(address), progress
            )
        samples = answers_of(model, [task.id for task in tasks], drawn, {})
        return judge_samples(self.stages.domain, tasks, self.stages.split, samples, address.arm)

    def train(
        self,
        start: Path | None,
        pool: Sequence[TrainingExample],
        updates: int,
        address: Address,
        directory: Path,
    ) -> None:
        """As `Ours.train`."""
        lora, training, seed = self.config.lora, self.config.training, _torch_seed(address)
        with Progress(f"training {address.arm}", updates, "updates") as progress:
            study_reference.train(
                self.base, start, lora, pool, updates, training, seed, directory / PEFT, progress
            )


Side: TypeAlias = Ours | Theirs


def _torch_seed(address: Address) -> int:
    return int(address.rng().integers(2**63))
