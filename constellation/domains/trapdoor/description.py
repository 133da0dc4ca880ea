"""The language described, for a model that was not trained on it: the system message of every prompt.

It is the same for every task, so a sampler computes its KV once.
"""

from __future__ import annotations

from constellation.domains.task import Example, examples_text

# Worked examples: (examples of a task, a program that computes them).
WORKED: tuple[tuple[tuple[Example, ...], str], ...] = (
    (
        (Example(("grace hopper",), "G. Hopper"), Example(("alan turing",), "A. Turing")),
        'Concat(Upper(SubStr(x, 1, 1)), Const(". "), Capitalize(GetToken(x, Word, -1)))',
    ),
    (
        (Example(("order 118-20 (paid)",), "20/118"), Example(("order 7-1503 (open)",), "1503/7")),
        'Concat(GetToken(x, Number, 2), Const("/"), GetToken(x, Number, 1))',
    ),
    (
        (Example(("a.b@mail.org",), "MAIL.ORG"), Example(("zoe@x.net",), "X.NET")),
        'Upper(GetFrom(x, "@", 1))',
    ),
)

_LANGUAGE = """\
You infer a rule from examples `input -> output` and write it as one program in the language below. The \
program must compute every output from its input, and will be run on further inputs of the same kind. \
Answer with the program alone.

A program is a nested call. Its input is `x` (with several inputs `x1`, `x2`, ...). Strings are JSON \
literals. i and j are 1-based indices from -9 to 9, never 0; negative ones count from the end. n is 1 to 32, \
b `start` or `end`. R is a pattern: a string of 1 to 4 characters, or a class. Of the classes Digit, Letter \
and Char are one character long; Number (digits), Word (letters), Alphanum, AllCaps, PropCase (a capital, \
then small letters), Lower (small letters), Decimal, Space and NonSpace match as much as they can.

Const("text")                      the text
Concat(S, S, ...)                  2 to 8 strings joined
SubStr(S, i, j)                    characters i to j, both included
GetToken(S, R, i)                  the i-th match of R
GetSpan(S, R, i, b, R, j, b)       from the start or end of one match to the start or end of another
GetUpto(S, R, i)                   up to the end of the i-th match
GetFrom(S, R, i)                   what follows the i-th match
Before(S, R, i)                    what precedes the i-th match
Field(S, "d", i)                   the i-th piece of S split at "d"
Upper(S) Lower(S)                  all letters
Capitalize(S) Title(S)             first letter of the string, or of every word, the others small
Trim(S)                            without spaces at both ends
Replace(S, "old", "new")           every "old" replaced
Substitute(S, R, i, "new")         the i-th match replaced
SubstituteAll(S, R, "new")         every match replaced
Remove(S, R, i) RemoveAll(S, R)    the i-th match, or every match, removed
GetAll(S, R, "d")                  all matches, joined by "d"
GetFirst(S, R, n)                  the first n matches, joined
PadLeft(S, n, "c") PadRight(S, n, "c")       filled with the character to length n
StripLeft(S, "chars") StripRight(S, "chars") without these characters at that end
MapJoin(S, R, T, "d")              T, a program over `t`, on every match of R (or piece of S, if R is a \
string), joined by "d"
Count(S, R) Len(S)                 number of matches, or of characters
If(B, S, S)                        the first string if B holds, else the second
B is Contains(S, R), StartsWith(S, R), EndsWith(S, R), Equals(S, "text"), CountAtLeast(S, R, n) or \
LenAtLeast(S, n).
"""

_CRITIC = """\
When you are asked `generalises?` about a program that you gave, answer `yes` if it is right on all further \
inputs of the same kind, and `no` if it fits the examples by chance.
"""

DESCRIPTION = "\n".join(
    [
        _LANGUAGE,
        "Three tasks with their answers:",
        *(f"\n{examples_text(examples)}\n{program}" for examples, program in WORKED),
        "",
        _CRITIC,
    ]
)
