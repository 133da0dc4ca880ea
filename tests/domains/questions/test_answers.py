"""The judge: exact and flexible matches, and that it ends and does not raise, whatever is written."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from constellation.domains.domain import Verdict
from constellation.domains.questions.answers import SECONDS, answer_key, judge
from constellation.domains.task import Example, Task, split


def verdict(gold: str, text: str) -> Verdict:
    task = Task("0-0", (Example(("How many?",), gold),))
    return judge(task, split(task, 0), text)


@pytest.mark.parametrize(
    ("text", "valid", "right", "flexible"),
    [
        (r"5 + 10 = 15. The answer is \boxed{15}.", True, True, True),
        (r"The answer is \boxed{15.0}.", True, True, True),
        ("The answer is 15.", True, False, True),
        ("So it is $15$", True, False, True),
        (r"There are \boxed{15} novelists and \boxed{9} poets.", True, False, True),
        (r"The answer is \boxed{15, 9}.", True, False, True),
        (r"15, so \boxed{16}.", True, False, False),
        ("The answer is 16.", True, False, False),
        ("15? I do not know.\n\\boxed{}", False, False, False),
        ("No idea.", False, False, False),
    ],
)
def test_exact_and_flexible(text, valid, right, flexible):
    found = verdict("15", text)
    boxed = valid and r"\boxed" in text
    assert found.key == answer_key(((), ()), text)
    assert found == Verdict(
        valid, faults=int(not boxed), fits=boxed, right=right, key=found.key, flexible=flexible
    )


def test_keys_are_values_and_else_the_text():
    keys = [answer_key(((), ()), text) for text in (r"\boxed{0.5}", "It is 1/2.", " No idea. ")]
    assert keys[0] == keys[1] and keys[2] == "No idea."


HANGS = [
    r"\boxed{9^{9^9}}",
    r"\boxed{\prod_{i=1}^{10000000} i}",
    r"\boxed{" + "{" * 400 + "1" + "}" * 400 + "}",
]
HOSTILE = [
    "9" * 10**6,
    "a" * 10**7,
    "answer is " * 10**5,
    "$x$ and " * 10**5,
    r"\boxed{" * 10**5,
    r"\boxed{" + r"\frac{1}{" * 100 + "2" + "}" * 101,
    r"\boxed{1/0}",
    r"\boxed{1e999999999}",
    r"\boxed{" + "9" * 3000 + "}",
    r"\boxed{__import__('os')}",
    "\0\ud800\\boxed{\udfff}",
    "\\" * 999,
]


@pytest.mark.parametrize("text", HANGS + HOSTILE, ids=lambda text: repr(text[:30]))
def test_it_ends_whatever_is_written(text):
    start = time.process_time()
    found = verdict(r"\frac{\pi}{2} + x", text)
    assert not found.right and not found.flexible
    assert verdict("2", r"\boxed{2}").right  # also behind an answer that was given up
    assert time.process_time() - start < SECONDS  # no work is done in this process


def test_it_judges_in_any_thread():
    with ThreadPoolExecutor(4) as threads:
        texts = [rf"\boxed{{{i}}}" for i in range(20)] + HANGS[:1]
        found = list(threads.map(lambda text: verdict("7", text), texts))
    assert [each.right for each in found] == [i == 7 for i in range(21)]
