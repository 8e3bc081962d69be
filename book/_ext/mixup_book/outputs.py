"""Outputs of notebook cells: pictures with alt text, plotly figures without a kernel.

MyST-NB finds such plugins as entry points of installed packages; the book brings its own without being one.
"""

from __future__ import annotations

import html
import json

import myst_nb.core.render as render
from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

PLOTLY = "application/vnd.plotly.v1+json"
TRACES = "mixup_book_traces"  # on Sphinx's environment: page -> kinds of trace drawn there
SCRIPTS = [(key, f"{key}.js", {"defer": "defer"}) for key in ("plotly.min", "plotly-figures")]
_PICTURES = {"image/png", "image/jpeg", "image/svg+xml", "image/gif"}
_logger = logging.getLogger(__name__)


def figure_nodes(environment: BuildEnvironment, figure: dict) -> list[nodes.Element]:
    """A plotly figure as HTML that carries it as JSON; `printed` makes a picture of it."""
    layout = figure.get("layout", {})
    alt = (layout.get("meta") or {}).get("alt", "")
    traces = [*figure.get("data", []), *(t for frame in figure.get("frames", []) for t in frame.get("data", []))]
    pages = getattr(environment, TRACES)
    pages.setdefault(environment.docname, set()).update(trace.get("type", "scatter") for trace in traces)
    parts = {key: figure[key] for key in ("data", "layout", "frames") if key in figure}
    content = json.dumps(parts, separators=(",", ":")).replace("<", "\\u003c")
    height = f"min-height:{layout.get('height', 400)}px"
    markup = (
        f'<figure class="interactive" aria-label="{html.escape(alt)}" style="{height}">'
        f'<script type="application/json">{content}</script>'
        "<noscript>This figure moves; it needs JavaScript.</noscript></figure>"
    )
    return [nodes.raw("", markup, format="html")]


class PlotlyFigure:
    """A figure as JSON in the page; `plotly-figures.js` draws it when the page is opened."""

    mime_priority_overrides = (("*", PLOTLY, 1),)

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> list[nodes.Element] | None:
        """The JSON, as a page of HTML takes it."""
        if data.mime_type != PLOTLY or inline:
            return None
        figure = json.loads(data.content) if isinstance(data.content, str) else data.content
        layout = figure.get("layout", {})
        alt = (layout.get("meta") or {}).get("alt", "")
        if not alt:
            _warn(renderer, data, "an interactive figure has no alt text: set_alt_text(figure, ...)")
        for script in SCRIPTS:
            renderer.add_js_file(*script)
        return figure_nodes(renderer.renderer.sphinx_env, figure)


class DescribedPicture:
    """A picture with the alt text of the cell (`mystnb: {image: {alt: ...}}`), or else of the output itself."""

    mime_priority_overrides = ()

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> list[nodes.Element] | None:
        """The picture as MyST-NB renders it, with alt text, and as high as its width asks."""
        if data.mime_type not in _PICTURES or inline:
            return None
        rendered = renderer.render_image(data)
        for image in rendered:
            image["alt"] = image.get("alt") or data.output_metadata.get(data.mime_type, {}).get("alt", "")
            if not image["alt"]:
                _warn(
                    renderer, data, "a picture has no alt text: add mystnb: {image: {alt: ...}} to the cell's metadata"
                )
            if "width" in image:
                image.attributes.pop("height", None)  # a narrow screen shrinks both
        return rendered


class Table:
    """A table of pandas: the empty cell over its index is no heading, which a screen reader would announce.

    On paper too the HTML of an output comes first: `printed` sets what it says.
    """

    mime_priority_overrides = (("latex", "text/html", 1),)

    @staticmethod
    def handle_mime(renderer: NbElementRenderer, data: MimeData, inline: bool) -> None:
        """Mends the HTML and leaves the rest to MyST-NB."""
        if data.mime_type == "text/html" and 'class="dataframe"' in data.string:
            data.content = data.string.replace("<th></th>", "<td></td>")


def _warn(renderer: NbElementRenderer, data: MimeData, message: str) -> None:
    page = renderer.renderer.sphinx_env.docname
    _logger.warning(f"cell {data.cell_index}: {message}", location=(page, data.line), type="mixup_book", subtype="alt")


def _start(app: Sphinx, environment: BuildEnvironment, docnames: list[str]) -> None:
    if not hasattr(environment, TRACES):
        setattr(environment, TRACES, {})


def _purge(app: Sphinx, environment: BuildEnvironment, docname: str) -> None:
    getattr(environment, TRACES, {}).pop(docname, None)


def _merge(app: Sphinx, environment: BuildEnvironment, docnames: list[str], other: BuildEnvironment) -> None:
    getattr(environment, TRACES).update(getattr(other, TRACES, {}))


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    found = render.load_mime_renders
    render.load_mime_renders = lambda: [*found(), PlotlyFigure, DescribedPicture, Table]
    app.connect("env-before-read-docs", _start)
    app.connect("env-purge-doc", _purge)
    app.connect("env-merge-info", _merge)
