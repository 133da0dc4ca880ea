"""Files of questions: the published formats, one's own, and what is said of those that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from constellation.domains.questions.files import ROLES, read_questions
from constellation.domains.task import owner
from constellation.runtime.errors import UserError

MATH = {
    "source": "math500",
    "id": "test/algebra/1.json",
    "question": "What is $\\frac{3}{4}$ of $\\sqrt{16}$?",
    "answer": "3",
    "level": 4,
    "subject": "Algebra",
    "solution": "It is $\\boxed{3}$.",
}
SIMULEQ = {"source": "simuleq", "id": "0", "question": "A pen and a cap cost 3, two caps 2.", "answer": "2"}
MULTIARITH = {"question": " Ann had 3 boxes of 4 pens. How many pens were there? ", "final_ans": "12"}
OWN = {"question": "Wie viel ist 1/2 + 1/4?", "answer": 0.75}


def write(path: Path, *lines: dict | str) -> str:
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_published_formats_and_ones_own(tmp_path):
    first = write(tmp_path / "first.jsonl", MATH, SIMULEQ, "")
    math, simuleq, multiarith, own = read_questions(
        [first, write(tmp_path / "second.jsonl", MULTIARITH, OWN)]
    )
    assert math.examples == ((("What is $\\frac{3}{4}$ of $\\sqrt{16}$?",), "3"),)
    assert (math.atoms, math.skeleton, math.program) == (4, "Algebra", "The answer is \\boxed{3}.")
    assert math.id == f"{math.signature}-test/algebra/1.json"
    assert (simuleq.atoms, simuleq.skeleton, simuleq.examples[0].output) == (1, "", "2")
    assert multiarith.examples[0].inputs[0].startswith("Ann") and multiarith.examples[0].output == "12"
    assert own.examples[0].output == "0.75"


def test_the_text_alone_decides_the_role(tmp_path):
    records = [{"question": f"What is {i} + 1?", "answer": f"{i + 1}", "id": i} for i in range(2000)]
    tasks = read_questions([write(tmp_path / "one.jsonl", *records)])
    assert all(task.role == owner(ROLES, task.signature) for task in tasks)
    for role, share in ROLES.items():
        assert sum(task.role == role for task in tasks) / len(tasks) == pytest.approx(share, abs=0.03)
    other = [{"question": f"  what IS\n{i} +  1?", "answer": "-"} for i in range(2000)]
    again = read_questions([write(tmp_path / "two.jsonl", *other)])
    assert [(task.signature, task.role) for task in again] == [(task.signature, task.role) for task in tasks]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"question": "1?"', "Expecting"),
        ("[" * 100_000, "recursion"),
        ("[1]", "not an object"),
        ({"answer": "1"}, "has no question"),
        ({"question": " ", "answer": "1"}, "has no question"),
        ({"question": "\ud800", "answer": "1"}, "surrogates"),
        ({"question": "1?"}, "has no answer or final_ans"),
        ({"question": "1?", "answer": None}, "has no answer"),
        ('{"question": "1?", "answer": NaN}', "has no answer"),
        ({"question": "1?", "answer": "1" * 501}, "more than 500 characters"),
        ({"question": "1?", "answer": "1", "level": 6}, "level 6 is not one of 1 to 5"),
        ({"question": "1?", "answer": "1", "level": "Level 3"}, "level 'Level 3' is not"),
        ({"question": "1?", "answer": "1", "id": [1]}, "id is neither"),
    ],
)
def test_what_is_no_question_is_told_by_its_line(tmp_path, line, problem):
    path = write(tmp_path / "some.jsonl", SIMULEQ, line)
    with pytest.raises(UserError, match=f"some.jsonl, line 2 is no question: .*{problem}.*; write one JSON"):
        read_questions([path])


def test_files_that_cannot_be_read_or_hold_nothing(tmp_path):
    with pytest.raises(UserError, match=r"none.jsonl: No such file"):
        read_questions([str(tmp_path / "none.jsonl")])
    with pytest.raises(UserError, match="Is a directory"):
        read_questions([str(tmp_path)])
    with pytest.raises(UserError, match=r"no questions in .*empty.jsonl"):
        read_questions([write(tmp_path / "empty.jsonl", "", " ")])
    (tmp_path / "bytes.jsonl").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match=r"bytes.jsonl, line 1 is no question"):
        read_questions([str(tmp_path / "bytes.jsonl")])


def test_no_two_questions_have_one_text_or_one_id(tmp_path):
    first = write(tmp_path / "first.jsonl", SIMULEQ)
    with pytest.raises(UserError, match=r"first.jsonl, line 1 has the text of .*first.jsonl, line 1"):
        read_questions([first, first])
    twice = write(tmp_path / "twice.jsonl", SIMULEQ, MATH, MATH | {"question": "Another?"})
    with pytest.raises(UserError, match=r"twice.jsonl, line 3 has the id of .*line 2: leave one of them out"):
        read_questions([twice])
    other = write(tmp_path / "other.jsonl", SIMULEQ | {"question": "Another?"})
    assert len(read_questions([first, other])) == 2  # each file has its own ids
