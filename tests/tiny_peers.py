"""A study of peers of seconds: two tiny peers of one directory, and answers that are now right, now wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from constellation.domains.domain import ANOTHER, Domain
from constellation.domains.equations import DOMAIN
from constellation.domains.equations.questions import parse, task_of, wrong_answer
from constellation.generator import Sample
from constellation.model.decoder import init_params
from constellation.model.lora import Adapter
from constellation.model.model import Generator, Model
from constellation.model.sampling import SamplingConfig
from constellation.nano.pretraining import write_model
from constellation.nano.tokenizer import STYLES, build_tokenizer
from constellation.runtime.keys import fold
from constellation.runtime.progress import Progress
from launch.common import load_config
from tests.tiny_study import ROOT, Untrained, adapters_of, bytes_of, tiny_model_config

PEERS = str(ROOT / "configs" / "peers_nano.py")
FIELDS = {
    "peers.seeds": "0,1",
    "peers.rounds": 1,
    "peers.problems": 8,
    "peers.level": 2,
    "tasks.bank_size": 6,
    "trajectories": 2,
    "sampling.max_new_tokens": 8,
    "lora.rank": 4,
    "training.batch_size": 4,
    "training.checkpoint_every": 1,
    "evaluation.samples": 4,
    "evaluation.resamples": 100,
    "arms": "pst,self_only,oracle,untrained",
}


def tiny_peers(model_dir: Path, **fields: object) -> ConfigDict:
    """configs/peers_nano.py, made tiny; `fields` with "__" for the dot."""
    models = f"{model_dir},{model_dir}"
    changed = {name.replace("__", "."): value for name, value in fields.items()}
    overrides = {"peers.models": models} | FIELDS | changed
    return load_config(PEERS, [f"--config.{name}={value}" for name, value in overrides.items()])


FAMILIES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "llama": {"model_type": "llama"},
    "gemma": {
        "model_type": "gemma3_text",
        "query_pre_attn_scalar": 16,
        "rope_local_base_freq": 10_000.0,
        "sliding_window": 32,
        "layer_types": ("sliding_attention",),
    },
}


def write_tiny_peer(directory: Path, style: str = "qwen3", seed: int = 0) -> Path:
    """A model directory of a peer's family with random weights."""
    assert DOMAIN.pretraining is not None
    tokenizer = build_tokenizer(DOMAIN.pretraining, style=STYLES[style])
    config = dataclasses.replace(tiny_model_config(tokenizer.get_vocab_size()), **FAMILIES[style])
    write_model(directory, config, init_params(config, fold(seed, "tiny")), tokenizer, STYLES[style])
    return directory


class Answering(Untrained):
    """Answers that are right or wrong by chance, and more often right behind a right one.

    What is drawn depends on the key, the task, the sample, the prompt and every bit of the adapter; so do the
    scores. Trainings are left out.
    """

    def __init__(self) -> None:
        super().__init__(Path())

    def _sample(
        self,
        model: Model,
        adapter: Adapter | None,
        prompts: Sequence[Sequence[int]],
        task_ids: Sequence[str],
        key: jax.Array,
        config: SamplingConfig,
        progress: Progress,
    ) -> list[list[Sample]]:
        place = np.asarray(jax.random.key_data(key)).tobytes() + bytes_of(adapter)
        progress.update(len(task_ids) * config.n)
        return [
            [self._answer(model, prompt, place + f"{task_id} {n}".encode(), config) for n in range(config.n)]
            for prompt, task_id in zip(prompts, task_ids, strict=True)
        ]

    def log_prob(self, generator: Generator, prompts: Any, texts: Any) -> list[list[np.ndarray]]:
        """About -1 a token, by what is asked and the weights."""
        weights = [bytes_of(adapter) for adapter in adapters_of(generator)]
        return [
            [
                np.array(
                    [
                        -len(text) * (0.5 + _chance(own + str(list(prompt) + list(text)).encode()))
                        for text in after
                    ]
                )
                for prompt, after in zip(prompts[r], texts[r], strict=True)
            ]
            for r, own in enumerate(weights)
        ]

    def critic_scores(  # type: ignore[override]
        self, critics: Generator, domain: Domain, tasks: Any, samples: Any, split: Any, among: Any
    ) -> list[np.ndarray]:
        """By the text of each answer that is asked about, and the weights."""
        weights = [bytes_of(adapter) for adapter in adapters_of(critics)]
        return [
            np.array(
                [
                    4 * _chance(weight + str(text).encode()) - 2 if asked else np.nan
                    for text, asked in zip(own.text, among(own), strict=True)
                ]
            )
            for own, weight in zip(samples, weights, strict=True)
        ]

    def _answer(self, model: Model, prompt: Sequence[int], place: bytes, sampling: SamplingConfig) -> Sample:
        tokenizer = model.tokenizer
        turn = tokenizer.decode(prompt).partition("user\n")[2].partition("<|im_end|>")[0]
        question, *earlier = turn.split(ANOTHER)
        task = task_of(parse(question))
        if sampling.temperature == 0:
            place = place[-8:]
        rng = random.Random(hashlib.blake2b(place + str(prompt).encode(), digest_size=8).digest())
        known = any(text.endswith(f"answer {task.examples[0].output}") for text in earlier)
        text = task.program if rng.random() < (0.8 if known else 0.5) else wrong_answer(task, rng)
        if rng.random() < 0.1:
            text = text.replace("answer ", "= ")
        return Sample(np.array(tokenizer.encode(text), np.int32), rng.random() < 0.95)


def _chance(place: bytes) -> float:
    """A number in [0, 1) that belongs to a place."""
    return int.from_bytes(hashlib.blake2b(place, digest_size=4).digest()) / 2**32
