"""Token classes: fixed ASCII character runs, found in one linear scan.

No pattern comes from a user, none backtracks over more than a run, and none depends on a locale.
"""

from __future__ import annotations

import re
from functools import lru_cache

from constellation.domains.trapdoor.language.syntax import MAX_MATCHES, TokenClass

PATTERNS: dict[TokenClass, re.Pattern[str]] = {
    TokenClass.NUMBER: re.compile(r"[0-9]+"),
    TokenClass.WORD: re.compile(r"[A-Za-z]+"),
    TokenClass.ALPHANUM: re.compile(r"[A-Za-z0-9]+"),
    TokenClass.ALL_CAPS: re.compile(r"[A-Z]+"),
    TokenClass.PROP_CASE: re.compile(r"[A-Z][a-z]+"),
    TokenClass.LOWER: re.compile(r"[a-z]+"),
    TokenClass.DIGIT: re.compile(r"[0-9]"),
    TokenClass.CHAR: re.compile(r".", re.DOTALL),
    TokenClass.SPACE: re.compile(r"[ \t\r\n]+"),
    TokenClass.NON_SPACE: re.compile(r"[^ \t\r\n]+"),
    TokenClass.DECIMAL: re.compile(r"[0-9]+(?:\.[0-9]+)?"),
    TokenClass.LETTER: re.compile(r"[A-Za-z]"),
}


_CACHED_LENGTH = 64  # characters; 16,384 scans of such texts take 80 MB at most, and inputs are half as long


def matches(text: str, pattern: TokenClass | str) -> tuple[tuple[int, int], ...]:
    """The (start, end) of every match from left to right, without overlaps, at most `MAX_MATCHES`.

    Cached where the text is short: the programs of a task scan the same few inputs with the same patterns.
    Intermediate strings may be long, and a cache of those would grow to gigabytes.
    """
    return cached_matches(text, pattern) if len(text) <= _CACHED_LENGTH else _scan(text, pattern)


def _scan(text: str, pattern: TokenClass | str) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    if isinstance(pattern, TokenClass):
        for match in PATTERNS[pattern].finditer(text):
            found.append(match.span())
            if len(found) == MAX_MATCHES:
                break
    elif pattern:
        start = text.find(pattern)
        while start >= 0 and len(found) < MAX_MATCHES:
            found.append((start, start + len(pattern)))
            start = text.find(pattern, start + len(pattern))
    return tuple(found)


cached_matches = lru_cache(maxsize=1 << 14)(_scan)
