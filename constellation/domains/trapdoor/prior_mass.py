"""How much prior mass of atom programs is consistent with a set of examples: exact, by a sum-product.

The prior of `prior.py` factorises over atoms, and a program's output is the concatenation of its atoms'
pieces. So the mass of all programs that turn the inputs x_1..x_E into the outputs y_1..y_E is a sum over
paths through tuples of output offsets (o_1..o_E): an atom whose pieces continue every output leads to the
tuple of their ends. Of the 318,000 atoms that are not constants, those that do the same on the inputs are
summed first; paths of n atoms meet in the middle, ceil(n / 2) from the left and floor(n / 2) from the right.

A task is not drawn from the prior alone: `synthesis.py` rejects. What is applied here, exactly:

- two constants in a row, and a lone constant (whose outputs are all alike), are rejected;
- programs of a withheld structural class are left out or, for withheld tasks, only they are counted;
- where all inputs of the task are known, an atom that faults on any of them is rejected, and so is one that
  an ablation finds idle: a case change that never changes anything, a piece that is always empty or always
  the whole input.

What is not applied: rules that compare outputs over all examples (a piece of the input, the identity, cheap
rivals), the limit on an output's length, and what depends on behaviour on further inputs (signature, role,
probes). The mass is exact, in float64, under the law that remains; evaluation is strict.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from constellation.domains.trapdoor import prior
from constellation.domains.trapdoor.language import Node, Side, TokenClass
from constellation.domains.trapdoor.language.syntax import CASES, MAX_INDEX, concat
from constellation.domains.trapdoor.language.tokens import matches
from constellation.domains.trapdoor.structure import withheld_classes

Array = NDArray[np.floating]
Ints = NDArray[np.integer]

_CHANGES: dict[str, Callable[[str], str]] = {
    "": str,
    "Upper": str.upper,
    "Lower": str.lower,
    "Capitalize": str.capitalize,
    "Title": str.title,
}

# What the rules must know of a run of atoms, its *traits*, as bits: the case operators in it (bits 0 to 3),
# whether a SubStr and a GetToken count from the end, whether its first and its last atom are constants.
_FROM_THE_END = {"SubStr": 1 << 4, "GetToken": 1 << 5}
_FIRST, _LAST = 1 << 6, 1 << 7
_CONSTANT = _FIRST | _LAST
_NO_ATOM = 1 << 8
_REJECTED = -1


class Atoms:
    """The prior's atoms as they act on E inputs."""

    def __init__(self, inputs: Sequence[str], all_inputs: bool = False):
        """Finds the pieces of all atoms but constants that fault on none of the E >= 1 inputs.

        `all_inputs` says whether these are all inputs of a task, so that its rules reject idle atoms.
        """
        spans = [*_substrings(inputs), *_tokens(inputs), _anchored(inputs)]
        start = np.concatenate([span.start for span in spans])  # [R, E]
        stop = np.concatenate([span.stop for span in spans])  # [R, E]
        density = np.concatenate([span.density for span in spans])  # [R]
        traits = np.concatenate([np.full(len(span.density), span.traits) for span in spans])  # [R]
        tables = [_changed_pieces(text) for text in inputs]
        ids = np.stack([table[:, start[:, e], stop[:, e]] for e, (table, _) in enumerate(tables)], -1)

        allowed = np.ones(ids.shape[:2], bool)  # [5, R]
        if all_inputs:
            whole = (start == 0) & (stop == [len(text) for text in inputs])
            allowed &= (start < stop).any(1) & ~whole.all(1)
            allowed[1:] &= (ids[1:] != ids[0]).any(-1)
        case, row = np.nonzero(allowed)
        case_density = np.exp([prior.CASE.log_density(name) for name in _CHANGES])
        case_traits = np.array([0, *(1 << bit for bit in range(len(CASES)))])
        self._strings = [strings for _, strings in tables]
        self._piece = ids[case, row]  # [A, E], which of the input's strings
        self._density = case_density[case] * density[row]  # [A]
        self._traits = case_traits[case] | traits[row]  # [A]

    def mass(self, outputs: Sequence[str | None], max_atoms: int, withheld: bool = False) -> float:
        """The prior probability of a program that turns the inputs into the outputs, within the rules.

        Args:
            outputs: E strings, at least one; None where the program must not fault, but may return anything.
            max_atoms: of the prior, a key of `prior.ATOMS`.
            withheld: count the programs of withheld structural classes instead of all others.
        """
        steps = self._steps(outputs)
        end = np.array([[len(output) for output in outputs if output is not None]])
        left, right = _Paths.empty(0 * end), _Paths.empty(end)
        total = 0.0
        for n in range(1, max_atoms + 1):
            if n % 2:
                left = steps.appended_to(left)
            else:
                right = steps.prepended_to(right)
            share = math.exp(prior.ATOMS[max_atoms].log_density(n))
            total += share * _joined_mass(left, right, withheld, lone=n == 1)
        return total

    def _steps(self, outputs: Sequence[str | None]) -> _Steps:
        """The atoms whose pieces occur in the outputs; those that do the same are one step."""
        known = [(e, output) for e, output in enumerate(outputs) if output is not None]
        rows = np.arange(len(self._density))
        for e, output in known:
            occurs = np.array([string in output for string in self._strings[e]])
            rows = rows[occurs[self._piece[rows, e]]]
        keys = np.concatenate([self._piece[rows][:, [e for e, _ in known]], self._traits[rows, None]], 1)
        distinct, density = _summed(keys, self._density[rows])
        constants = _constants([output for _, output in known])
        traits = np.concatenate([distinct[:, -1], np.full(len(constants), _CONSTANT)])
        density = np.concatenate([density, list(constants.values())])
        places = []
        for column, (e, output) in enumerate(known):
            used, string = np.unique(distinct[:, column], return_inverse=True)
            strings = [*(self._strings[e][i] for i in used), *constants]
            string = np.concatenate([string, np.arange(len(used), len(strings))])
            places.append(_places(strings, string, output))
        return _Steps(places, traits, density)


class _Span(NamedTuple):
    """R ways of cutting a piece out of each input, all of one kind, none of which faults."""

    start: Ints  # [R, E]
    stop: Ints  # [R, E]
    density: Array  # [R] of the atom, but for its case
    traits: int


def _substrings(inputs: Sequence[str]) -> Iterator[_Span]:
    """Pieces between absolute positions."""
    lengths = np.array([len(text) for text in inputs])
    indices = [index for index in range(-MAX_INDEX, MAX_INDEX + 1) if index]
    for i, j in itertools.product(indices, indices):
        density = _density(Node("SubStr", (prior.X, i, j)))
        start = np.full(len(inputs), i - 1) if i > 0 else lengths + i
        stop = np.full(len(inputs), j) if j > 0 else lengths + 1 + j
        if density and ((start >= 0) & (start < stop) & (stop <= lengths)).all():
            traits = _FROM_THE_END["SubStr"] if j < 0 else 0
            yield _Span(start[None], stop[None], np.array([density]), traits)


def _tokens(inputs: Sequence[str]) -> Iterator[_Span]:
    """Token matches."""
    for pattern, index in itertools.product(prior.CLASS.values, prior.INDEX.values):
        found = _match(inputs, pattern, index)
        if found is not None:
            density = _density(Node("GetToken", (prior.X, pattern, index)))
            traits = _FROM_THE_END["GetToken"] if index < 0 else 0
            yield _Span(found[None, :, 0], found[None, :, 1], np.array([density]), traits)


def _anchored(inputs: Sequence[str]) -> _Span:
    """Pieces between anchors: one way for every pair of positions, whichever anchors lead there."""
    positions, densities = [], []
    patterns: list[TokenClass | str] = [*prior.CLASS.values, *prior.ANCHOR_DELIMITERS]
    for pattern, index in itertools.product(patterns, prior.INDEX.values):
        found = _match(inputs, pattern, index)
        if found is not None:
            for edge, side in enumerate(Side):
                positions.append(found[:, edge])
                densities.append(math.exp(prior.log_anchor_density(pattern, index, side)))
    distinct, density = _summed(np.array(positions, np.int64).reshape(-1, len(inputs)), np.array(densities))
    first, last = np.nonzero((distinct[:, None] <= distinct[None, :]).all(-1))
    kind = math.exp(prior.KIND.log_density("GetSpan"))
    return _Span(distinct[first], distinct[last], kind * density[first] * density[last], 0)


def _match(inputs: Sequence[str], pattern: TokenClass | str, index: int) -> Ints | None:
    """[E, 2] the (start, end) of the index-th match in every input; None where one lacks it."""
    found = [matches(text, pattern) for text in inputs]
    if any(len(spans) < abs(index) for spans in found):
        return None
    return np.array([spans[index - 1 if index > 0 else index] for spans in found])


def _density(atom: Node) -> float:
    """The probability of an atom but for that of having no case change."""
    return math.exp(prior.log_atom_density(atom) - prior.CASE.log_density(""))


def _changed_pieces(text: str) -> tuple[Ints, list[str]]:
    """Every substring under every case change: which string it is, and the distinct strings.

    The first is [5, L + 1, L + 1] for (case change, start, stop >= start).
    """
    places = len(text) + 1
    known: dict[str, int] = {}
    table = np.full((len(_CHANGES), places, places), -1)
    for start in range(places):
        pieces = [text[start:stop] for stop in range(start, places)]
        for case, change in enumerate(_CHANGES.values()):
            table[case, start, start:] = [known.setdefault(change(p), len(known)) for p in pieces]
    return table, list(known)


def _constants(outputs: Sequence[str]) -> dict[str, float]:
    """The constants that occur in every output, and their densities."""
    text = outputs[0]
    longest = max(*map(len, prior.DELIMITERS), *prior.WORD_LENGTH.values)
    pieces = {text[i : i + size] for size in range(1, longest + 1) for i in range(len(text) - size + 1)}
    shared = sorted(piece for piece in pieces if all(piece in output for output in outputs))
    densities = {piece: math.exp(prior.log_atom_density(Node("Const", (piece,)))) for piece in shared}
    return {piece: density for piece, density in densities.items() if density}


class _Places(NamedTuple):
    """Where the pieces of G steps fit into one output of M characters, by way of their U distinct strings."""

    string: Ints  # [G]
    size: Ints  # [U]
    begins: NDArray[np.bool_]  # [U, M + 1]: the string stands in the output from there on
    ends: NDArray[np.bool_]  # [U, M + 1]: ... up to there


def _places(strings: list[str], string: Ints, output: str) -> _Places:
    """Finds the distinct strings in an output."""
    begins, ends = np.zeros((2, len(strings), len(output) + 1), bool)
    for row, text in enumerate(strings):
        at = output.find(text)
        while at >= 0:
            begins[row, at] = ends[row, at + len(text)] = True
            at = output.find(text, at + 1)
    return _Places(string, np.array([len(text) for text in strings], np.int64), begins, ends)


class _Paths(NamedTuple):
    """The mass of runs of atoms that reach S distinct ends."""

    offsets: Ints  # [S, E] in the known outputs
    traits: Ints  # [S]
    mass: Array  # [S]

    @staticmethod
    def empty(offsets: Ints) -> _Paths:
        return _Paths(offsets, np.array([_NO_ATOM]), np.ones(1))


class _Steps(NamedTuple):
    """G steps: atoms that differ in a piece or in their traits."""

    places: list[_Places]  # of each known output
    traits: Ints  # [G]
    density: Array  # [G]

    def appended_to(self, paths: _Paths) -> _Paths:
        """Every path, one step longer at its right end."""
        path, step = self._fitting(paths, [place.begins for place in self.places])
        return self._longer(paths, path, step, _JOIN[paths.traits[path], self.traits[step]], 1)

    def prepended_to(self, paths: _Paths) -> _Paths:
        """Every path, one step longer at its left end."""
        path, step = self._fitting(paths, [place.ends for place in self.places])
        return self._longer(paths, path, step, _JOIN[self.traits[step], paths.traits[path]], -1)

    def _fitting(self, paths: _Paths, fits: list[NDArray[np.bool_]]) -> tuple[Ints, Ints]:
        """The pairs of a path and a step that fit all outputs: [P] of the paths, [P] of the steps."""
        path, step = np.nonzero(fits[0].T[np.ix_(paths.offsets[:, 0], self.places[0].string)])
        for e, (place, fit) in enumerate(zip(self.places, fits, strict=True)):
            good = fit[place.string[step], paths.offsets[path, e]]
            path, step = path[good], step[good]
        return path, step

    def _longer(self, paths: _Paths, path: Ints, step: Ints, traits: Ints, direction: int) -> _Paths:
        good = traits != _REJECTED
        path, step, traits = path[good], step[good], traits[good]
        sizes = np.stack([place.size[place.string[step]] for place in self.places], -1)  # [P, E]
        keys = np.concatenate([paths.offsets[path] + direction * sizes, traits[:, None]], 1)
        distinct, mass = _summed(keys, paths.mass[path] * self.density[step])
        return _Paths(distinct[:, :-1], distinct[:, -1], mass)


def _joined_mass(left: _Paths, right: _Paths, withheld: bool, lone: bool) -> float:
    """The mass of the programs that are a left and a right path end to end; `lone` if they are one atom."""
    ends, end = _distinct(np.concatenate([left.offsets, right.offsets]))
    first, here = np.unique(left.traits, return_inverse=True)
    last, there = np.unique(right.traits, return_inverse=True)
    left_mass, right_mass = np.zeros((len(ends), len(first))), np.zeros((len(ends), len(last)))
    left_mass[end[: len(here)], here] = left.mass
    right_mass[end[len(here) :], there] = right.mass
    traits = _JOIN[np.ix_(first, last)]
    counted = (traits != _REJECTED) & (_WITHHELD[traits] == withheld)
    if lone:
        counted &= traits != _CONSTANT
    return float((left_mass.T @ right_mass)[counted].sum())


def _distinct(rows: Ints) -> tuple[Ints, Ints]:
    """The distinct rows [D, C] of [N, C], sorted, and which of them each row is [N]."""
    order = np.lexsort(rows.T)
    rows = rows[order]
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]).any(1)
    which = np.empty(len(rows), np.int64)
    which[order] = np.cumsum(new) - 1
    return rows[new], which


def _summed(rows: Ints, mass: Array) -> tuple[Ints, Array]:
    """The distinct rows [D, C] of [N, C], and of each the sum of its mass [N]: [D]."""
    distinct, which = _distinct(rows)
    return distinct, np.bincount(which, mass, len(distinct)).astype(np.float64)


def _joined_traits() -> Ints:
    """[257, 257] the traits of two runs of atoms end to end; `_REJECTED` where two constants meet."""
    left, right = np.arange(_NO_ATOM)[:, None], np.arange(_NO_ATOM)[None, :]
    joined = ((left | right) & ~_CONSTANT) | (left & _FIRST) | (right & _LAST)
    table = np.empty((_NO_ATOM + 1, _NO_ATOM + 1), np.int64)
    table[:-1, :-1] = np.where((left & _LAST > 0) & (right & _FIRST > 0), _REJECTED, joined)
    table[-1, :] = table[:, -1] = np.arange(_NO_ATOM + 1)
    return table


def _belongs_to_withheld(traits: int) -> bool:
    """Whether the programs of these traits, no lone constants, are of a withheld class: asks one of them."""
    constant, token = Node("Const", ("-",)), Node("GetToken", (prior.X, TokenClass.WORD, 1))
    parts = [constant] * bool(traits & _FIRST)
    parts += [Node(case, (token,)) for bit, case in enumerate(CASES) if traits >> bit & 1]
    parts += [Node("SubStr", (prior.X, -1, -1))] * bool(traits & _FROM_THE_END["SubStr"])
    parts += [Node("GetToken", (prior.X, TokenClass.WORD, -1))] * bool(traits & _FROM_THE_END["GetToken"])
    parts += [token, *[constant] * bool(traits & _LAST)]
    return bool(withheld_classes(concat(*parts)))


_JOIN = _joined_traits()
_WITHHELD = np.array([_belongs_to_withheld(traits) for traits in range(_NO_ATOM)])  # [256]
