"""The other side of `launch.benchmark --config`: transformers' generate, peft's update, in PyTorch.

The model is transformers' own of the same config, in the dtype of ours, with random weights made on the
device. Where CUDA is missing, everything runs on the CPU.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from functools import partial

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel, Qwen3Config

from constellation.selftraining.batches import Batch, TrainingExample, pack
from third_party import training_reference
from third_party.benchmarks.timing import fastest, resident_peak
from third_party.benchmarks.workload import Measurement, Workload, failed, sampled

RATE, CLIP = 1e-4, 1.0
warnings.simplefilter("ignore", FutureWarning)  # peft and transformers about each other


def measure_sampling(
    work: Workload, name: str, four_bits: bool = False, static_cache: bool = False
) -> Iterator[Measurement]:
    """Yields "prefill" and "decode" of one prompt for every number of samples, as our side defines them.

    Args:
        four_bits: whether the projections are bitsandbytes' NF4.
        static_cache: whether the cache has its full size from the beginning, for which `generate` compiles
            its step.

    Raises:
        RuntimeError: this torch has no CUDA, and ours runs on a GPU, or `four_bits` or `static_cache` is on.
        ImportError: `four_bits` without bitsandbytes.
    """
    if static_cache and not torch.cuda.is_available():
        raise RuntimeError("generate compiles its step on CUDA only")
    model, sizes = _model(work, four_bits).eval(), work.sizes
    prompt = torch.tensor(work.prompts()[:1], device=model.device)  # [1, T]

    @torch.inference_mode()
    def generate(samples: int, tokens: int) -> None:
        output = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            num_return_sequences=samples,
            do_sample=work.sampling.temperature > 0,
            temperature=work.sampling.temperature or None,
            top_k=work.sampling.top_k,
            top_p=work.sampling.top_p,
            max_new_tokens=tokens,
            eos_token_id=None,  # every answer has its full length
            pad_token_id=0,
            cache_implementation="static" if static_cache else None,
        )
        output.cpu()  # waits

    for samples in sizes.samples:
        try:
            first = fastest(partial(generate, samples, 1), sizes.repeats)
            whole = fastest(partial(generate, samples, sizes.answer_tokens), sizes.repeats)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            yield from failed(("prefill", "decode"), name, str(error), samples)
            continue
        decoded = work.decoded(samples)
        yield from sampled(name, samples, work.prompt_tokens, decoded, first, whole, _peak_memory())


def measure_update(
    work: Workload, name: str, four_bits: bool = False, compiled: bool = False
) -> Iterator[Measurement]:
    """Yields one "update", with activation checkpointing where ours recomputes layers.

    Raises:
        RuntimeError, ImportError: as `measure_sampling`.
    """
    base = _model(work, four_bits)
    if work.remat:
        base.activation_checkpointing_enable()
    model = training_reference.add_adapter(base, work.rank, int(work.alpha)).train()
    if compiled:
        model.get_base_model().model.compile()
    optimizer = training_reference.make_optimizer(model, RATE, fused=True)
    examples, size = work.examples(), work.sizes.micro_batch
    parts = [examples[start : start + size] for start in range(0, len(examples), size)]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        for part in parts:
            # All sequences have as many targets: the mean over the batch is that of the parts' means.
            loss = training_reference.loss_of(model, _without_padding(part)) * (len(part) / len(examples))
            loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        if not torch.isfinite(loss):  # waits
            raise FloatingPointError("the loss is not finite")

    seconds = fastest(update, work.sizes.repeats)
    tokens = sum(example.length for example in examples)
    yield Measurement("update", name, 0, tokens, seconds, _peak_memory())


def _model(work: Workload, four_bits: bool) -> PreTrainedModel:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and (four_bits or work.platform == "gpu"):
        raise RuntimeError("this torch has no CUDA")
    dtype = getattr(torch, work.dtype)
    with torch.device(device):
        config = Qwen3Config.from_dict(work.config.to_fields())
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


def _without_padding(examples: Sequence[TrainingExample]) -> Batch:
    """A sequence a row, all of one length."""
    batch, rows, width = pack(examples), len(examples), examples[0].length
    tokens = Batch(*(array[:rows] for array in batch))
    return tokens._replace(
        tokens=tokens.tokens[:, :width],
        positions=tokens.positions[:, :width],
        document=tokens.document[:, :width],
        branch=tokens.branch[:, :width],
    )


def _peak_memory() -> int:
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident_peak()
