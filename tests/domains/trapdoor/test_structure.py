"""The withheld structural classes, by examples on both sides of each line."""

from __future__ import annotations

import pytest

from constellation.domains.trapdoor.language import parse
from constellation.domains.trapdoor.structure import WITHHELD, withheld_classes

TOKEN, LAST = "GetToken(x, Word, 1)", "GetToken(x, Word, -1)"


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        (f"Concat(Upper({TOKEN}), Lower({LAST}))", {"two_cases"}),
        (f"Upper(Lower({TOKEN}))", {"two_cases"}),
        ('MapJoin(Title(x), Word, Upper(t), "")', {"two_cases"}),
        (f"Concat(Upper({TOKEN}), Upper({LAST}))", set()),
        (f'Concat(Const("<"), {TOKEN}, Const(">"))', {"outer_constants"}),
        (f'Concat(Const("<"), {TOKEN})', set()),
        (f'Concat(Const("<"), {TOKEN}, Const(">"), {TOKEN})', set()),
        ('Const("<")', set()),
        (f"Concat(SubStr(x, -2, -1), {LAST})", {"twice_from_the_end"}),
        (f"Concat(SubStr(x, 2, -1), Lower({LAST}))", {"twice_from_the_end"}),
        (f"Concat(SubStr(x, 1, 2), {LAST})", set()),
        (f"Concat(SubStr(x, -2, -1), {TOKEN})", set()),
        (f"Concat({LAST}, {LAST})", set()),
        (
            f'Concat(Const("<"), Upper({LAST}), Lower(SubStr(x, -1, -1)), Const(">"))',
            {"two_cases", "outer_constants", "twice_from_the_end"},
        ),
    ],
)
def test_classes(text: str, classes: set[str]):
    assert set(withheld_classes(parse(text))) == classes


def test_there_are_three():
    assert set(WITHHELD) == {"two_cases", "outer_constants", "twice_from_the_end"}
