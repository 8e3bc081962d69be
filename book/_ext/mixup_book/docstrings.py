"""Docstrings are written to be read as they stand, with `code` in single backticks; reStructuredText wants two.

Defaults are shown as they are written too, those with Greek letters included.
"""

from __future__ import annotations

import ast
import re

from sphinx.application import Sphinx
from sphinx.ext.autodoc import preserve_defaults

_CODE = re.compile(r"(?<![`:\w])`([^`\n]+)`(?!`)")


def to_literals(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Doubles single backticks and keeps bars from being read as substitutions (roles like :func:`x` stay)."""
    for number, line in enumerate(lines):
        pieces = re.split(r"(``.*?``)", _CODE.sub(r"``\1``", line))
        lines[number] = "".join(p if p.startswith("``") else p.replace("|", r"\|") for p in pieces)


def default_as_written(lines: list[str], position: ast.expr) -> str | None:
    """The source of a default on one line: Sphinx 7 counts its characters, Python's positions are bytes."""
    one_line = lines and position.lineno == position.end_lineno
    return ast.get_source_segment("\n".join(lines), position) if one_line else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    preserve_defaults.get_default_value = default_as_written
    app.connect("autodoc-process-docstring", to_literals, priority=400)  # before napoleon
