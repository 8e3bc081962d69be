"""What the book needs beyond Jupyter Book: it reads offline, every picture has alt text, sliders need no kernel."""

from __future__ import annotations

from sphinx.application import Sphinx

from mixup_book import citations, docstrings, made, offline, outputs


def setup(app: Sphinx) -> dict[str, object]:
    """Called by Sphinx."""
    for part in (outputs, made, offline, citations, docstrings):
        part.setup(app)
    return {"version": "1", "env_version": 1, "parallel_read_safe": True, "parallel_write_safe": True}
