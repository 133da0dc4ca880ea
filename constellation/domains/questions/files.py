"""Questions from JSONL files: those of MATH-500, SimulEq and MultiArith as published, and one's own.

A line is an object with "question" and "answer" (MultiArith: "final_ans"); "id", "level" and "subject" may
stand beside them, and whatever else does is ignored.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from constellation.domains.task import Example, Task, owner
from constellation.runtime.errors import UserError, is_integer, is_number

LEVELS = range(1, 6)  # as in MATH; questions without a level are of the lowest
LONGEST_ANSWER = 500  # characters; the longest of MATH-500 has 53
# The share of the questions that each role owns.
ROLES: dict[str, float] = {
    "warm_start": 0.10,
    "star": 0.30,
    "critic": 0.10,
    "calibration": 0.05,
    "tuning": 0.10,
    "evaluation": 0.35,
}


def read_questions(paths: Sequence[str]) -> list[Task]:
    """The questions of all files, in order.

    Raises UserError: a file cannot be read, a line is no question, or two are the same or have one id.
    """
    tasks: list[Task] = []
    places: dict[str, str] = {}  # what no two questions may share -> where it stands
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                task = _task(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{place} is no question: {error}; write one JSON object a line, with question and answer"
                ) from None
            own_id = task.id.removeprefix(f"{task.signature}-")
            for shared, name in (("text", task.signature), ("id", own_id and f"{path}: {own_id}")):
                if name in places:
                    raise UserError(f"{place} has the {shared} of {places[name]}: leave one of them out")
                if name:
                    places[name] = place
            tasks.append(task)
    if not tasks:
        raise UserError(f"there are no questions in {', '.join(paths)}: write one JSON object a line")
    return tasks


def final_answer(answer: str) -> str:
    """An answer in the form that the prompt asks for."""
    return rf"The answer is \boxed{{{answer}}}."


def _lines(path: str) -> list[bytes]:
    try:
        return Path(path).read_bytes().splitlines()
    except OSError as error:
        raise UserError(
            f"cannot read the questions in {path}: {error.strerror}; name a file of yours in config.domain"
        ) from None


def _task(record: Any) -> Task:
    """The question of a line's JSON value, whose text decides its role. Raises ValueError: it is none."""
    if not isinstance(record, dict):
        raise ValueError("not an object")
    question, answer = (_text(record, *names) for names in (("question",), ("answer", "final_ans")))
    if len(answer) > LONGEST_ANSWER:
        raise ValueError(f"its answer has more than {LONGEST_ANSWER} characters")
    level = 1 if record.get("level") is None else record["level"]
    if not is_integer(level) or level not in LEVELS:
        raise ValueError(f"its level {level!r} is not one of {min(LEVELS)} to {max(LEVELS)}")
    own_id = "" if record.get("id") is None else record["id"]
    if not isinstance(own_id, (str, int)):
        raise ValueError("its id is neither text nor a whole number")
    normalised = " ".join(question.lower().split())
    signature = hashlib.blake2b(normalised.encode(), digest_size=8).hexdigest()
    return Task(
        id=f"{signature}-{own_id}",
        examples=(Example((question,), answer),),
        program=final_answer(answer),
        atoms=level,
        skeleton=str(record.get("subject") or ""),
        role=owner(ROLES, signature),
    )


def _text(record: dict[str, Any], *names: str) -> str:
    """The first of these fields that is there, a text or a number, without the space around it."""
    for name in names:
        value = record.get(name)
        if is_number(value) or (isinstance(value, str) and value.strip()):
            return str(value).strip()
    raise ValueError(f"it has no {' or '.join(names)}")
