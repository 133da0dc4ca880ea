"""Token scans against a scanner without regular expressions, and str's own methods."""

from __future__ import annotations

import string
import tracemalloc
from collections.abc import Callable, Iterable
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from constellation.domains.trapdoor.language import TokenClass
from constellation.domains.trapdoor.language.syntax import MAX_MATCHES, MAX_STRING
from constellation.domains.trapdoor.language.tokens import PATTERNS, cached_matches, matches

SPACES = " \t\r\n"
RUNS: dict[TokenClass, Callable[[str], bool]] = {
    TokenClass.NUMBER: lambda c: c in string.digits,
    TokenClass.WORD: lambda c: c in string.ascii_letters,
    TokenClass.ALPHANUM: lambda c: c in string.ascii_letters + string.digits,
    TokenClass.ALL_CAPS: lambda c: c in string.ascii_uppercase,
    TokenClass.LOWER: lambda c: c in string.ascii_lowercase,
    TokenClass.SPACE: lambda c: c in SPACES,
    TokenClass.NON_SPACE: lambda c: c not in SPACES,
}
SINGLES: dict[TokenClass, Callable[[str], bool]] = {
    TokenClass.DIGIT: lambda c: c in string.digits,
    TokenClass.LETTER: lambda c: c in string.ascii_letters,
    TokenClass.CHAR: lambda c: True,
}
# Dense in the characters where classes meet, with the digits, letters and spaces of other scripts.
texts = st.text(st.sampled_from("azAZ09. \t\r\n-_é²١\u00a0\u2028ſK") | st.characters(), max_size=40)


def spans_of(text: str, pattern: TokenClass | str) -> list[str]:
    return [text[start:end] for start, end in matches(text, pattern)]


@pytest.mark.parametrize("token_class", RUNS)
@given(text=texts)
def test_runs_are_maximal(token_class: TokenClass, text: str) -> None:
    runs = ["".join(group) for inside, group in groupby(text, RUNS[token_class]) if inside]
    assert spans_of(text, token_class) == runs


@pytest.mark.parametrize("token_class", SINGLES)
@given(text=texts)
def test_single_characters(token_class: TokenClass, text: str) -> None:
    expected = tuple((i, i + 1) for i, c in enumerate(text) if SINGLES[token_class](c))
    assert matches(text, token_class) == expected


@pytest.mark.parametrize(
    ("token_class", "text", "expected"),
    [
        (TokenClass.PROP_CASE, "Ada LOVElace McAdam X a1B É", ["Ada", "Elace", "Mc", "Adam"]),
        (TokenClass.PROP_CASE, "ABc", ["Bc"]),
        (TokenClass.DECIMAL, "3.14 .5 7. 1.2.3 -8", ["3.14", "5", "7", "1.2", "3", "8"]),
        (TokenClass.NUMBER, "3.14a07", ["3", "14", "07"]),
        (TokenClass.ALPHANUM, "a1-b2_c3", ["a1", "b2", "c3"]),
        (TokenClass.CHAR, "a\né", ["a", "\n", "é"]),
        (TokenClass.SPACE, " a \t\r\nb\u00a0c", [" ", " \t\r\n"]),
        ("aa", "aaaaa", ["aa", "aa"]),
        (".", "a.b..", [".", ".", "."]),
        ("Word", "Word word", ["Word"]),
        ("", "abc", []),
    ],
)
def test_by_hand(token_class: TokenClass | str, text: str, expected: list[str]) -> None:
    assert spans_of(text, token_class) == expected


@given(texts, st.text("a.- é", min_size=1, max_size=4))
def test_literals_are_found_as_str_finds_them(text: str, literal: str) -> None:
    spans = matches(text, literal)
    assert len(spans) == text.count(literal)
    pieces = text.split(literal)
    assert text[: spans[0][0] if spans else len(text)] == pieces[0]
    assert text[spans[-1][1] if spans else 0 :] == pieces[-1]


@given(texts, st.sampled_from(TokenClass))
def test_spans_are_ordered_disjoint_and_not_empty(text: str, token_class: TokenClass) -> None:
    edges = [edge for span in matches(text, token_class) for edge in span]
    assert edges == sorted(edges)
    assert all(start < end for start, end in matches(text, token_class))


def test_every_class_has_a_pattern() -> None:
    assert set(PATTERNS) == set(TokenClass)
    assert set(RUNS) | set(SINGLES) | {TokenClass.PROP_CASE, TokenClass.DECIMAL} == set(TokenClass)


@pytest.mark.parametrize("pattern", [TokenClass.DIGIT, TokenClass.NUMBER, "7"])
def test_scans_stop(pattern: TokenClass | str) -> None:
    text = "7 " * (MAX_MATCHES + 5)
    assert matches(text, pattern) == tuple((2 * i, 2 * i + 1) for i in range(MAX_MATCHES))


def test_a_literal_spelled_like_a_class_is_not_that_class() -> None:
    assert matches("abc", TokenClass.CHAR) != matches("abc", "Char")


def kept_bytes(texts: Iterable[str]) -> int:
    """What is still allocated when every character of every text has been found."""
    tracemalloc.start()
    try:
        for text in texts:
            matches(text, TokenClass.CHAR)
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_no_more_than_100_mb_of_texts_are_kept() -> None:
    """The longest texts there are, and the longest that are kept, four bytes a character."""
    assert kept_bytes(f"{i:04}".ljust(MAX_STRING, "\U0001f600") for i in range(200)) < 1e5
    kept = kept_bytes(f"{i:04}".ljust(64, "\U0001f600") for i in range(1000)) / 1000
    most = cached_matches.cache_info().maxsize
    assert most is not None and 1e7 < kept * most < 1e8
