"""Random inputs: eight realistic families and one of mixed tokens, about twenty characters each.

Within a family the number of tokens varies from input to input, so that positions counted from the left,
from the right and in characters disagree and a program is identified by more than one reading.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Iterator

from constellation.domains.trapdoor.language.syntax import TokenClass
from constellation.domains.trapdoor.language.tokens import matches

SHAPE_DRAWS = 12  # tries to draw an input of a wanted shape, before another is taken
_LETTERS, _DIGITS = re.compile("[A-Za-z]+"), re.compile("[0-9]+")

_NAMES = (
    "Ann Bob Carla Dan Eve Finn Gita Hugo Ines Jack Kira Liam Mona Nils Olga Pete Quinn Rosa Sam Tina Uma "
    "Vera Will Xena Yuri Zoe"
).split()
_SURNAMES = (
    "Adams Brown Chen Diaz Evans Ford Gupta Hill Ito Jones King Lopez Moore Novak Ortiz Park Quist Reed "
    "Smith Tran Urban Voss West Yang Zhou"
).split()
_WORDS = (
    "alpha beta core data edge file gate host item join key lake main node open page quad root site time "
    "unit view web yard zone"
).split()
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_LEVELS = "INFO WARN ERROR DEBUG".split()
_CAPITALS = "ABCDEFGHJKLMNPQRSTUVWXYZ"


def _number(rng: random.Random, low: int = 1, high: int = 4) -> str:
    digits = rng.randint(low, high)
    return str(rng.randint(10 ** (digits - 1), 10**digits - 1))


def _name(rng: random.Random) -> str:
    first, last = rng.choice(_NAMES), rng.choice(_SURNAMES)
    form = rng.randrange(4)
    if form == 0:
        return f"{first} {last}"
    if form == 1:
        return f"{last}, {first}"
    if form == 2:
        return f"{first} {rng.choice(_CAPITALS)}. {last}"
    return f"{first} {rng.choice(_NAMES)} {last}"


def _phone(rng: random.Random) -> str:
    area, exchange, line = (rng.randint(200, 989), rng.randint(200, 989), rng.randint(1000, 9999))
    form = rng.randrange(4)
    if form == 0:
        return f"({area}) {exchange}-{line}"
    if form == 1:
        return f"+{rng.randint(1, 98)} {area} {exchange} {line}"
    if form == 2:
        return f"{area}-{exchange}-{line}"
    return f"{area}.{exchange}.{line} x{rng.randint(1, 99)}"


def _date(rng: random.Random) -> str:
    year, month, day = rng.randint(1970, 2029), rng.randint(1, 12), rng.randint(1, 28)
    form = rng.randrange(4)
    if form == 0:
        return f"{year}-{month:02d}-{day:02d}"
    if form == 1:
        return f"{day} {_MONTHS[month - 1]} {year}"
    if form == 2:
        return f"{month}/{day}/{year} {rng.randint(0, 23)}:{rng.randint(0, 59):02d}"
    return f"{_MONTHS[month - 1]} {day}, {year}"


def _path(rng: random.Random) -> str:
    parts = [rng.choice(_WORDS) for _ in range(rng.randint(1, 3))]
    suffix = rng.choice(("py", "txt", "csv", "md", "JPG"))
    stem = rng.choice(_WORDS)
    if rng.random() < 0.5:
        stem += rng.choice(("", "_", "-")) + _number(rng, 1, 2)
    return rng.choice(("/", "", "~/")) + "/".join([*parts, stem]) + "." + suffix


def _email(rng: random.Random) -> str:
    user = rng.choice(_NAMES).lower()
    if rng.random() < 0.7:
        user += rng.choice("._-") + rng.choice(_SURNAMES).lower()
    if rng.random() < 0.4:
        user += _number(rng, 1, 2)
    host = ".".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 2)))
    return f"{user}@{host}.{rng.choice(('com', 'org', 'edu', 'io'))}"


def _log(rng: random.Random) -> str:
    words = " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 2)))
    return f"{rng.choice(_LEVELS)}{rng.choice((': ', ' '))}{words} {_number(rng, 1, 3)}" + (
        f" {rng.choice(_WORDS)}{_number(rng, 1, 2)}" if rng.random() < 0.5 else ""
    )


def _price(rng: random.Random) -> str:
    item = " ".join(rng.choice(_WORDS).capitalize() for _ in range(rng.randint(1, 2)))
    amount = f"{rng.choice('$ ').strip()}{_number(rng, 1, 3)}.{rng.randint(0, 99):02d}"
    text = f"{item}{rng.choice((': ', ' ', ' - '))}{amount}"
    return text + (f" x{rng.randint(2, 12)}" if rng.random() < 0.5 else "")


def _code(rng: random.Random) -> str:
    pieces = []
    for _ in range(rng.randint(2, 4)):
        form = rng.randrange(3)
        if form == 0:
            pieces.append("".join(rng.choice(_CAPITALS) for _ in range(rng.randint(2, 3))))
        elif form == 1:
            pieces.append(_number(rng))
        else:
            pieces.append(rng.choice(_CAPITALS) + _number(rng, 1, 2))
    return rng.choice("-_:#/").join(pieces)


def _mixed(rng: random.Random) -> str:
    text = ""
    for position in range(rng.randint(2, 4)):
        word = rng.choice(_WORDS)
        number, suffix = _number(rng, 1, 3), _number(rng, 1, 2)
        token = rng.choice((word, word.capitalize(), word.upper(), number, word + suffix))
        text += (rng.choice((" ", " ", "-", "_", ", ", "/", ":", ".")) if position else "") + token
    return text


FAMILIES: dict[str, Callable[[random.Random], str]] = {
    "name": _name,
    "phone": _phone,
    "date": _date,
    "path": _path,
    "email": _email,
    "log": _log,
    "price": _price,
    "code": _code,
    "mixed": _mixed,
}


def draw_inputs(
    rng: random.Random,
    family: str,
    count: int,
    exclude: frozenset[str] = frozenset(),
    alike: float = 0.0,
    model: str | None = None,
) -> list[str]:
    """The first `count` of `stream_inputs`."""
    return list(itertools.islice(stream_inputs(rng, family, exclude, alike, model), count))


def stream_inputs(
    rng: random.Random,
    family: str,
    exclude: frozenset[str] = frozenset(),
    alike: float = 0.0,
    model: str | None = None,
) -> Iterator[str]:
    """Distinct inputs of a family without end, none of them in `exclude`.

    `alike` is the share of inputs that are to have the shape of `model`, by default the first input drawn.
    People's inputs mostly look alike, and two examples of one shape leave more programs in question.
    """
    seen = set(exclude)
    while True:
        text = FAMILIES[family](rng)
        model = model or text
        if alike and rng.random() < alike:
            for _ in range(SHAPE_DRAWS):
                if shape(text) == shape(model):
                    break
                text = FAMILIES[family](rng)
        if text not in seen:
            seen.add(text)
            yield text


def shape(text: str) -> str:
    """The text with every run of letters as `a` and every run of digits as `9`."""
    return _DIGITS.sub("9", _LETTERS.sub("a", text))


def token_counts_vary(inputs: list[str]) -> bool:
    """Whether the inputs differ in their number of alphanumeric tokens, so that anchors can disagree."""
    return len({len(matches(text, TokenClass.ALPHANUM)) for text in inputs}) > 1
