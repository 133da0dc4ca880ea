"""The trapdoor language: cheap to generate (program, examples), hard to invert, free and exact to check.

`syntax` holds the tree and its text, which `parser` inverts exactly; `interpreter` is total and bounded.
This package imports no JAX.
"""

from constellation.domains.trapdoor.language.interpreter import Result, evaluate
from constellation.domains.trapdoor.language.parser import ParseError, parse
from constellation.domains.trapdoor.language.syntax import Node, Side, TokenClass, to_text

__all__ = ["Node", "ParseError", "Result", "Side", "TokenClass", "evaluate", "parse", "to_text"]
