"""`{pdf-edition}`: one sentence on the PDF of the book, with a link if `make pdf` has made it."""

from __future__ import annotations

import posixpath
import shutil
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

NAME = "mixup-across-modalities.pdf"
_KNOWN = "mixup_book_pdf"  # on Sphinx's environment: page with the sentence -> whether it has the link


def pdf_file(app: Sphinx) -> Path:
    """Where `make pdf` leaves its PDF."""
    return Path(app.srcdir, "_build", "pdf", NAME)


class PdfEdition(SphinxDirective):
    """A link to the PDF that lies beside the pages; without a PDF, how to make one. On paper, nothing."""

    def run(self) -> list[nodes.Node]:
        """The sentence."""
        found = pdf_file(self.env.app).is_file()
        pages = getattr(self.env, _KNOWN, {})
        pages[self.env.docname] = found
        setattr(self.env, _KNOWN, pages)
        if found:
            path = posixpath.relpath(NAME, posixpath.dirname(self.env.docname) or ".")
            markup = f'<p class="pdf-edition"><a href="{path}">The whole book as one PDF</a>, for paper.</p>\n'
        else:
            markup = '<p class="pdf-edition">The whole book as one PDF, for paper: <code>make pdf</code>.</p>\n'
        return [nodes.raw("", markup, format="html", classes=["online-only"])]


def outdated(app: Sphinx, env: BuildEnvironment, added: set[str], changed: set[str], removed: set[str]) -> list[str]:
    """Pages to read again because a PDF has come or gone."""
    found = pdf_file(app).is_file()
    return [page for page, had in getattr(env, _KNOWN, {}).items() if had != found and page not in removed]


def copy(app: Sphinx, exception: Exception | None) -> None:
    """Puts the PDF beside the pages."""
    if exception or app.builder.format != "html" or not getattr(app.env, _KNOWN, {}):
        return
    target = Path(app.outdir, NAME)
    target.unlink(missing_ok=True)
    if pdf_file(app).is_file():
        shutil.copyfile(pdf_file(app), target)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("pdf-edition", PdfEdition)
    app.connect("env-get-outdated", outdated)
    app.connect("build-finished", copy)
