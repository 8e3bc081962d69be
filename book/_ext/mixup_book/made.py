"""`{made} path function`: what a function of a Python file in the book returns, shown on a page that is no notebook.

The function takes no arguments and returns a plotly figure or anything with an HTML form. It runs when the page is
read.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from docutils import nodes
from myst_nb.sphinx_ import NbMetadataCollector
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from mixup_book.outputs import SCRIPTS, figure_nodes


class Made(SphinxDirective):
    """`{made} _tools/picture.py slider`, the path as seen from the page."""

    required_arguments = 2

    def run(self) -> list[nodes.Node]:
        """The nodes of what the function returned."""
        name, function = self.arguments
        path = Path(self.env.doc2path(self.env.docname)).parent / name
        self.env.note_dependency(str(path))
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        made = getattr(module, function)()
        if not hasattr(made, "to_json"):
            return [nodes.raw("", made._repr_html_(), format="html")]
        for script in SCRIPTS:
            NbMetadataCollector.add_js_file(self.env, self.env.docname, *script)
        return figure_nodes(self.env, json.loads(made.to_json()))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("made", Made)
