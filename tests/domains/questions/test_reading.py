"""What an answer says: where it stands, which answers are equal, and which share a key."""

from __future__ import annotations

import pytest

from constellation.domains.questions.reading import read


def boxed(answer):
    return rf"So the answer is \boxed{{{answer}}}."


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (r"\frac{\pi}{2}", r"\pi/2"),
        (r"5\sqrt{2}", r"\sqrt{50}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
        ("1,-2", "-2, 1"),
        ("x^2+2x", "x(x+2)"),
        ("y = 2x+3", "2x - y + 3 = 0"),
        ("5", "x = 5"),
        ("x = 5", "5"),
        ("1,000", "1000"),
        ("18.90", r"\$18.90"),
        (r"90^\circ", "90"),
        (r"\text{Evelyn}", r"\text{Evelyn}"),
        (r"\begin{pmatrix} 1 \\ -2 \end{pmatrix}", "\\begin{pmatrix}\n1 \\\\\n-2\n\\end{pmatrix}"),
        ("583.3333", "1750/3"),  # four places
        ("83.33", "250/3"),  # two
        ("12.5", "25/2"),
    ],
)
def test_equal_answers(gold, answer):
    reading = read(boxed(answer), gold)
    assert reading is not None and reading.boxed and reading.equal


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("5", "6"),
        ("5", "-5"),
        ("5", "5x"),
        ("(3, 1)", "(1, 3)"),
        ("12", "12.001"),
        ("12.5", "12.54"),
        ("583.3333", "583.34"),
        ("[1, 2)", "(1, 2)"),
        ("2x + z = 1", "1"),  # math-verify is asymmetric: an equation answers a value, no value an equation
    ],
)
def test_other_answers(gold, answer):
    reading = read(boxed(answer), gold)
    assert reading is not None and not reading.equal


@pytest.mark.parametrize(
    ("text", "found", "in_a_box"),
    [
        (r"It seems to be \boxed{3}. But that does not fit. It is \boxed{7}.", "7", True),
        (r"It is \boxed{7}. " + "Thank you. " * 200, "7", True),
        (r"$\boxed{7}$ and $\boxed{8}$", "7, 8", True),
        (r"\boxed{7} pens and \boxed{8} caps", "7, 8", True),
        (r"\boxed{\frac{7}{\sqrt{2}}}", r"\frac{7}{\sqrt{2}}", True),
        ("3 pens and 4 caps are 7.", "7", False),
        ("The answer is 7/2.", "7/2", False),
        (r"Hence $x = \frac{7}{2}$.", "7/2", False),
        (r"\boxed 7", "7", False),
    ],
)
def test_where_the_answer_stands(text, found, in_a_box):
    reading = read(text, found)
    assert reading is not None and reading.equal and reading.boxed == in_a_box


@pytest.mark.parametrize("text", ["", "I do not know.", r"\boxed{}", r"7, so \boxed{ }"])
def test_no_answer(text):
    assert read(text, "7") is None


@pytest.mark.parametrize("answer", ["15, 9", "(15, 9)", "(9, 15)", "x = 15, y = 9", r"15 \text{ and } 9"])
def test_the_one_value_in_a_list_of_a_few(answer):
    reading = read(boxed(answer), "15")
    assert reading is not None and not reading.equal and reading.listed


@pytest.mark.parametrize(
    ("gold", "answer"),
    [("15", "14, 9"), ("15", "11, 12, 13, 14, 15"), ("15, 9", "15, 8"), ("15", "[9, 15]"), ("x", "x, y")],
)
def test_what_is_no_list_with_the_one_value(gold, answer):
    reading = read(boxed(answer), gold)
    assert reading is not None and not reading.equal and not reading.listed


@pytest.mark.parametrize(
    "same",
    [
        ["1/2", r"\frac12", "0.5", "0.50", ".5", "2^{-1}", "x = 1/2"],
        [r"5\sqrt{2}", r"\sqrt{50}"],
        ["1,000,000", "1000000", "10^6"],
        ["1, 2", r"\{2, 1\}"],
        ["[1, 2)", "[1.0, 2)"],
        ["2x + 3", "3 + 2x", "y = 2x + 3"],
    ],
)
def test_answers_that_share_a_key(same):
    readings = [read(text, None) for answer in same for text in (boxed(answer), f"It is ${answer}$")]
    assert len({reading.key for reading in readings if reading}) == 1 and all(readings)


def test_answers_that_share_none():
    different = ["1/2", "1/3", "x", "(1, 2)", "[1, 2]", "1, 2", "583.3333", "1750/3", r"\text{no}", "1/0"]
    readings = [read(boxed(answer), None) for answer in different]
    assert len({reading.key for reading in readings if reading}) == len(different)
