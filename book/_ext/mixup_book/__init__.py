"""What the book needs beyond Jupyter Book: it reads offline and on paper, pictures have alt text, sliders no kernel."""

from __future__ import annotations

from sphinx.application import Sphinx

from mixup_book import citations, docstrings, edition, latex, made, offline, outputs, printed, printed_boxes


def setup(app: Sphinx) -> dict[str, object]:
    """Called by Sphinx."""
    for part in (outputs, made, offline, citations, docstrings, edition, printed, printed_boxes, latex):
        part.setup(app)
    return {"version": "1", "env_version": 2, "parallel_read_safe": True, "parallel_write_safe": True}
