"""Docstrings are written to be read as they stand, with `code` in single backticks; reStructuredText wants two."""

from __future__ import annotations

import re

from sphinx.application import Sphinx

_CODE = re.compile(r"(?<![`:\w])`([^`\n]+)`(?!`)")


def to_literals(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Doubles single backticks and keeps bars from being read as substitutions (roles like :func:`x` stay)."""
    for number, line in enumerate(lines):
        pieces = re.split(r"(``.*?``)", _CODE.sub(r"``\1``", line))
        lines[number] = "".join(p if p.startswith("``") else p.replace("|", r"\|") for p in pieces)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", to_literals, priority=400)  # before napoleon
