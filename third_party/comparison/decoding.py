"""What is decoded: greedy continuations, and the frequencies of sampled tokens."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from transformers import PreTrainedModel

from constellation.generator import sample
from constellation.model import decoding
from constellation.model.model import Generator, Model
from constellation.model.sampling import SamplingConfig
from constellation.runtime import keys
from third_party import sampling_reference
from third_party.comparison.table import Row

TOKENS = 128
MOST_LEFT_OUT = 0.1
CONTEXTS = 4
DRAWS = 4096  # of each context
LEAST_EXPECTED = 5.0  # of a bin, for the statistic to follow its distribution
LEAST_P = 1e-3  # draws are addressed, so a model that passes always does; one in a thousand fails by chance
PLAIN = SamplingConfig(n=1)
TRUNCATED = SamplingConfig(n=1, temperature=0.6, top_k=20, top_p=0.95)


def greedy_rows(
    model: Model, reference: PreTrainedModel, prompts: list[list[int]], error: float, tokens: int = TOKENS
) -> list[Row]:
    """Greedy continuations, stop tokens or not, by the generator and by torch.

    A token whose lead is within twice the error is left out, as either may win; behind such a difference
    ours continues from torch's text.

    Args:
        error: the largest absolute error of a logit.
        tokens: of each continuation.
    """
    theirs, lead = sampling_reference.greedy(reference, prompts, tokens, model.tokenizer.size)
    certain = lead > 2 * error
    endless = Generator(dataclasses.replace(model, stop_ids=()))
    address = keys.Address(0, "compare_pytorch", "greedy")  # at temperature 0 it decides nothing
    config = SamplingConfig(n=1, temperature=0, max_new_tokens=tokens)
    differences = 0
    begun = dict.fromkeys(range(len(prompts)), 0)  # row -> how many of torch's tokens ours continues from
    while begun:
        texts = [[*prompts[row], *theirs[row, :begin].tolist()] for row, begin in begun.items()]
        (drawn,) = sample(endless, [texts], [[""] * len(texts)], address, config)
        again = {}
        for (row, begin), (answer,) in zip(begun.items(), drawn, strict=True):
            unequal = begin + np.flatnonzero(answer.ids[: tokens - begin] != theirs[row, begin:])
            if len(unequal) and certain[row, unequal[0]]:
                differences += 1  # what follows has no meaning
            elif len(unequal) and unequal[0] + 1 < tokens:
                again[row] = int(unequal[0]) + 1
        begun = again
    counted = f"{tokens} tokens behind each of {len(prompts)} prompts"
    return [
        Row("greedy decoding", f"continuations that differ, {counted}", differences, 0),
        Row(
            "greedy decoding, left out",
            f"share of tokens that lead by less than {2 * error:.0e}",
            float(1 - certain.mean()),
            MOST_LEFT_OUT,
        ),
    ]


def sampling_row(name: str, ours: np.ndarray, theirs: np.ndarray, sampling: SamplingConfig) -> Row:
    """Tokens drawn from our logits against torch's softmax of its own, at the least certain of P positions.

    Tokens are pooled by falling probability into bins; the statistics and degrees of freedom of the contexts
    are added up. A draw of what torch gives no probability gives p = 0.

    Args:
        ours, theirs: logits float32 [P, V].
    """
    probability = sampling_reference.probabilities(theirs, PLAIN)
    contexts = np.argsort(stats.entropy(probability, axis=1))[-CONTEXTS:]
    ours, theirs = ours[contexts], theirs[contexts]
    expected = DRAWS * sampling_reference.probabilities(theirs, sampling)  # [C, V]
    statistic, freedom = 0.0, 0
    for context, (logits, row) in enumerate(zip(ours, expected, strict=True)):
        drawn = _draws(logits, keys.fold(0, "compare_pytorch"), keys.word(context), sampling)
        observed = np.bincount(drawn, minlength=len(row))
        if observed[row == 0].any():
            statistic = np.inf
        order = np.argsort(-row, kind="stable")
        starts = bins(row[order])
        expected_in, observed_in = (np.add.reduceat(counts[order], starts) for counts in (row, observed))
        statistic += float(((observed_in - expected_in) ** 2 / expected_in).sum())
        freedom += len(starts) - 1
    drawn_in = f"{DRAWS} draws in each of {len(ours)} contexts"
    measured = f"p of chi-square = {statistic:.0f} at {freedom} degrees, {drawn_in}"
    return Row(name, measured, float(stats.chi2.sf(statistic, freedom)), LEAST_P, at_least=True)


def bins(expected: np.ndarray) -> np.ndarray:
    """Where bins of at least LEAST_EXPECTED begin in counts [V]; what is left at the end joins the last."""
    starts, held = [0], 0.0
    for index, count in enumerate(expected):
        if held >= LEAST_EXPECTED:
            starts.append(index)
            held = 0.0
        held += count
    if held < LEAST_EXPECTED and len(starts) > 1:
        starts.pop()
    return np.array(starts)


@functools.partial(jax.jit, static_argnums=3)
def _draws(logits: jax.Array, key: jax.Array, word: jax.Array, sampling: SamplingConfig) -> jax.Array:
    """Tokens [DRAWS] that samples 0, 1, ... of the task at `word` begin with."""

    def one(sample: jax.Array) -> jax.Array:
        return decoding.draw(logits, key, word, sample, jnp.int32(0), sampling)

    return jax.lax.map(one, jnp.arange(DRAWS), batch_size=32)
