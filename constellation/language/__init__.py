"""The trapdoor language: cheap to generate (program, examples), hard to invert, free and exact to check.

`syntax` holds the tree, `parser` and `printer` are exact inverses, `interpreter` is total and bounded.
This package imports no JAX.
"""

from constellation.language.interpreter import Result, evaluate
from constellation.language.parser import ParseError, parse
from constellation.language.printer import to_text
from constellation.language.syntax import Node, Side, TokenClass

__all__ = ["Node", "ParseError", "Result", "Side", "TokenClass", "evaluate", "parse", "to_text"]
