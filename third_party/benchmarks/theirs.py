"""PyTorch's side of the benchmarks: transformers' generate, peft's update.

The model of a workload is transformers' own of the same config, in the dtype of ours, with random weights
made on the device. Where CUDA is missing, everything runs on the CPU.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import tempfile
import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel

from constellation.selftraining.batches import Batch, TrainingExample
from third_party import sampling_reference, training_reference
from third_party.benchmarks.costs import ByteSizes
from third_party.benchmarks.harness import resident_peak
from third_party.benchmarks.workload import CLIP, RATE, Sampler, Workload, without_padding

warnings.simplefilter("ignore", FutureWarning)  # peft and transformers about each other


class Theirs:
    """transformers and peft on the model of a workload.

    Args:
        four_bits: whether the projections are bitsandbytes' NF4.
        static_cache: whether the cache has its full size from the beginning, for which `generate` compiles
            its step.
        compiled: whether torch compiles the update.

    Raises:
        RuntimeError: this torch has no CUDA, and ours runs on a GPU, or `four_bits` or `static_cache` is on.
        ImportError: `four_bits` without bitsandbytes.
    """

    def __init__(
        self, work: Workload, four_bits: bool = False, static_cache: bool = False, compiled: bool = False
    ):
        if static_cache and not torch.cuda.is_available():
            raise RuntimeError("generate compiles its step on CUDA only")
        self.work, self.compiled = work, compiled
        self.cache = "static" if static_cache else None
        self.model = _model(work, four_bits)
        stored = ByteSizes("int4:64" if four_bits else "", work.itemsize)  # bitsandbytes' block
        self.prompts = work.prompts()[:1]
        self.sampler = Sampler(1, shared=False, stored=stored)

    def sample(self, samples: int, tokens: int) -> None:
        """Draws answers of so many tokens to the first prompt.

        Raises:
            MemoryError: the device has too little.
        """
        config = dataclasses.replace(self.work.sampling, n=samples, max_new_tokens=tokens)
        try:  # with no stop ids every answer has its full length
            drawn = sampling_reference.generate(self.model.eval(), self.prompts, (), config, self.cache)
            drawn.cpu()  # waits
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise MemoryError(str(error)) from None

    def updater(self) -> Callable[[], None]:
        """A run of one update, with activation checkpointing where ours recomputes layers."""
        work, examples = self.work, self.work.examples()
        if work.remat:
            self.model.activation_checkpointing_enable()
        adapted = training_reference.add_adapter(self.model, work.rank, int(work.alpha)).train()
        if self.compiled:
            adapted.get_base_model().model.compile()
        finish = partial(without_padding, width=examples[0].length)
        run = updates(adapted, work.sizes.micro_batch, finish, fused=True)
        return lambda: run([examples])

    def peak_memory(self) -> int:
        """Most bytes that this process has held: on its GPU, or resident where there is none."""
        return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident_peak()


def updates(
    model: PeftModel,
    micro_batch: int = 0,
    finish: Callable[[Batch], Batch] = lambda batch: batch,
    fused: bool = False,
) -> Callable[[Sequence[Sequence[TrainingExample]]], None]:
    """A run of updates on the examples of each, one after the other, each going on from the last.

    Args:
        micro_batch: sequences that are differentiated at a time; 0 for all.
        finish: what becomes of a batch once it is collated.
        fused: whether AdamW is one kernel.
    """
    optimizer = training_reference.make_optimizer(model, RATE, fused=fused)

    def run(steps: Sequence[Sequence[TrainingExample]]) -> None:
        for examples in steps:
            size = micro_batch or len(examples)
            parts = [examples[start : start + size] for start in range(0, len(examples), size)]
            batches = [finish(training_reference.one_a_row(part)) for part in parts]
            loss = training_reference.update(model, optimizer, batches, CLIP)
        if not math.isfinite(loss):
            raise FloatingPointError("the loss is not finite")

    return run


def _model(work: Workload, four_bits: bool) -> PreTrainedModel:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and (four_bits or work.platform == "gpu"):
        raise RuntimeError("this torch has no CUDA")
    dtype = getattr(torch, work.dtype)
    with torch.device(device):
        config = AutoConfig.for_model(**work.config.to_fields())
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    if not four_bits:
        return model
    importlib.import_module("bitsandbytes")  # missing, it is said before the model is written

    how = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    with tempfile.TemporaryDirectory() as directory:  # transformers quantises what it loads
        model.save_pretrained(directory)
        del model
        model = AutoModelForCausalLM.from_pretrained(
            directory, quantization_config=how, dtype=dtype, device_map=device
        )
    torch.cuda.reset_peak_memory_stats()  # that of the model before
    return model
