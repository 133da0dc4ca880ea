"""The two implementations of what a study does with a model; adapters pass between them in peft's format."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from peft import PeftModel
from torch.utils.data import BatchSampler, RandomSampler
from transformers import PreTrainedModel

from constellation.domains.task import Task
from constellation.experiments.study import Study
from constellation.generator import Sample
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
from third_party import model_reference, training_reference
from third_party.comparison.logits import multiply_out
from third_party.sampling_reference import prefill_once

ROWS = 256  # samples that torch decodes at a time
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
        """Trains an adapter as a round does and leaves it in directory/PEFT.

        Args:
            start: an adapter in peft's format; None for a fresh one.
            updates: optimizer steps.
            address: of the batches and of a fresh adapter.
            directory: of the stage.
        """
        model, lora = self.stages.base.model, self.config.lora
        training = self.config.training.to_dict() | {"learning_rate": self.config.star.learning_rate}
        if start is None:
            initial = init_adapter(model.config, address.key(), lora.rank, lora.alpha)
        else:
            initial = load_peft(start, model.config)
        rows = self.stages.base.memory.micro_batch(pool, training["batch_size"], training["remat"])
        settings = TrainingConfig(**training, updates=updates, micro_batch=rows)
        generator, metadata = Generator(model, stack([initial])), {"name": address.arm}
        finetune(generator, [pool], settings, address, directory, metadata)
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
        model, domain = self.stages.base.model, self.stages.domain
        prompts = [model.chat(domain.messages(self.stages.split(task))) for task in tasks]
        size = max(1, ROWS // sampling.n)
        drawn: list[list[Sample]] = []
        torch.manual_seed(_torch_seed(address))
        generator = PeftModel.from_pretrained(self.base, adapter).eval() if adapter else self.base
        with Progress(address.arm, len(tasks) * sampling.n, "samples") as progress:
            for start in range(0, len(tasks), size):
                group = prompts[start : start + size]
                for answers in prefill_once(generator, group, model.stop_ids, sampling):
                    drawn.append([_without_stop(answer, model.stop_ids) for answer in answers])
                progress.update(len(group) * sampling.n)
        if adapter:
            generator.unload()  # which leaves the base as it was
        samples = answers_of(model, [task.id for task in tasks], drawn, {})
        return judge_samples(domain, tasks, self.stages.split, samples, address.arm)

    def train(
        self,
        start: Path | None,
        pool: Sequence[TrainingExample],
        updates: int,
        address: Address,
        directory: Path,
    ) -> None:
        """As `Ours.train`; torch's own samplers order the examples."""
        lora, training = self.config.lora, self.config.training
        torch.manual_seed(_torch_seed(address))
        if start is None:
            model = training_reference.add_adapter(self.base, lora.rank, int(lora.alpha))
        else:
            model = PeftModel.from_pretrained(self.base, start, is_trainable=True)
        if pool:
            rate, decay = self.config.star.learning_rate, training.weight_decay
            optimizer = training_reference.make_optimizer(model, rate, decay)
            order = RandomSampler(pool, num_samples=updates * training.batch_size)
            with Progress(f"training {address.arm}", updates, "updates") as progress:
                for indices in BatchSampler(order, training.batch_size, drop_last=False):
                    examples = training_reference.separate([pool[index] for index in indices])
                    batch = training_reference.one_a_row(examples)
                    loss = training_reference.update(model, optimizer, [batch], training.clip_norm)
                    progress.update(1, loss=loss)
        model.save_pretrained(str(directory / PEFT))
        model.unload()


Side: TypeAlias = Ours | Theirs


def _torch_seed(address: Address) -> int:
    return int(address.rng().integers(2**63))


def _without_stop(answer: Sequence[int], stop_ids: Sequence[int]) -> Sample:
    finished = answer[-1] in stop_ids
    return Sample(np.array(answer[:-1] if finished else answer, np.int32), finished)
