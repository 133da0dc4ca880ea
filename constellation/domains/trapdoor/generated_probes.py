"""Inputs that a selector may make up itself, and which programs behave alike on them.

A majority vote on held-out outputs has seen the held-out inputs. A vote on *generated probes* has not: they
are perturbed visible inputs, and nothing else of the task is read, neither its outputs nor its family.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Sequence

import numpy as np

from constellation.domains.task import Splitter, Task, addressed_random
from constellation.domains.trapdoor.language import evaluate, parse
from constellation.domains.trapdoor.verifier import extract
from constellation.samples import SampleSet

GENERATED_PROBES = 16  # a task
DRAWS_A_PROBE = 20  # tries to draw a new input, before fewer are taken

_PARTS = re.compile("[A-Za-z0-9]+|[^A-Za-z0-9]+")  # tokens and what separates them, in turn
_RUNS = re.compile("[A-Za-z]+|[0-9]+")
_LONGER = 3  # how much longer than the run it replaces a fresh one may be


def generated_probes(
    visible: Sequence[tuple[str, ...]], count: int = GENERATED_PROBES
) -> list[tuple[str, ...]]:
    """`count` new inputs like the visible ones, of which there is at least one: a function of these alone.

    Each is a visible input in which a token may have been dropped or doubled, and every run of letters or
    digits has an even chance of being replaced by a random one, with its case and of another length. They are
    distinct, and none is visible; fewer than `count` where there is hardly a letter or digit to perturb.
    """
    rng = addressed_random("generated probes", *("\x1e".join(inputs) for inputs in visible))
    seen = set(visible)
    probes: list[tuple[str, ...]] = []
    for _ in range(count * DRAWS_A_PROBE):
        if len(probes) == count:
            break
        probe = tuple(_perturbed(rng, text) for text in rng.choice(visible))
        if probe not in seen:
            seen.add(probe)
            probes.append(probe)
    return probes


def probe_clusters(tasks: Sequence[Task], samples: SampleSet, split: Splitter) -> np.ndarray:
    """Which programs behave alike on their task's generated probes: [D] int32.

    Two programs of a task share a number iff on every probe their outputs are the same and both or neither
    fault. -1 where one does not fit: only survivors vote. Of a split only the visible inputs are read.
    """
    cluster = np.full(len(samples.task), -1, np.int32)
    for t, task in enumerate(tasks):
        probes = generated_probes([example.inputs for example in split(task).visible])
        numbers: dict[tuple[tuple[str, bool], ...], int] = {}
        for row in samples.rows_where(samples.fits, t):
            program = parse(extract(str(samples.text[row])))
            results = [evaluate(program, inputs) for inputs in probes]
            behaviour = tuple((result.value, result.faults > 0) for result in results)
            cluster[row] = numbers.setdefault(behaviour, len(numbers))
    return cluster


def _perturbed(rng: random.Random, text: str) -> str:
    """The text with a token dropped, doubled or neither, and about half of its runs drawn anew."""
    parts = _PARTS.findall(text)
    tokens = [i for i, part in enumerate(parts) if _RUNS.match(part)]
    change = rng.choice(("drop", "double", "neither", "neither"))
    if change == "drop" and len(tokens) > 1:
        i = rng.choice(tokens)
        first = i if i < tokens[-1] else i - 1  # the last token goes with the separator before it
        del parts[first : first + 2]
    elif change == "double" and tokens:
        i = rng.choice(tokens)
        separator = parts[i + 1] if i < tokens[-1] else parts[i - 1] if i > tokens[0] else " "
        parts[i:i] = [parts[i], separator]
    return _RUNS.sub(lambda run: rng.choice((run[0], _fresh(rng, run[0]))), "".join(parts))


def _fresh(rng: random.Random, run: str) -> str:
    """Random letters in the case of `run`, or random digits; at least one, at most `_LONGER` more than it."""
    length = rng.randint(1, len(run) + _LONGER)
    if run.isdigit():
        return "".join(rng.choices(string.digits, k=length))
    letters = rng.choices(string.ascii_lowercase, k=length)
    cased = zip(letters, run.ljust(length, run[-1]), strict=False)  # its last letter's case goes on
    return "".join(letter.upper() if model.isupper() else letter for letter, model in cased)
