"""The printed book: its fonts, its title page, the look of code and boxes. `make pdf` sets it with xelatex."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.builders.latex.nodes import thebibliography
from sphinx.config import Config
from sphinx.transforms.post_transforms import SphinxPostTransform

_HERE = Path(__file__).parent
_BOXES = {  # kind of admonition -> colour of the bar at its left, and of its ground
    "note": ("0,114,178", "243,248,252"),
    "hint": ("0,114,178", "243,248,252"),
    "tip": ("0,130,95", "242,250,247"),
    "important": ("0,114,178", "243,248,252"),
    "seealso": ("0,130,95", "242,250,247"),
    "warning": ("213,94,0", "254,247,241"),
    "caution": ("213,94,0", "254,247,241"),
    "attention": ("213,94,0", "254,247,241"),
    "danger": ("213,94,0", "254,247,241"),
    "error": ("213,94,0", "254,247,241"),
}


def _box(kind: str, bar: str, ground: str) -> str:
    keys = {
        "border-width": "0pt",
        "border-left-width": "3pt",
        "padding": "7pt",
        "box-shadow": "none",
        "box-decoration-break": "slice",
        "border-TeXcolor": f"{{RGB}}{{{bar}}}",
        "background-TeXcolor": f"{{RGB}}{{{ground}}}",
    }
    return ",".join(f"div.{kind}_{key}={value}" for key, value in keys.items())


def release() -> str:
    """The version of the package, which is that of the book."""
    try:
        return version("mixup-modalities")
    except PackageNotFoundError:
        return ""


def settings(app: Sphinx, config: Config) -> None:
    """Fills in `latex_elements` whatever `_config.yml` leaves open."""
    facts = {"release": release(), "url": config.html_baseurl}
    commands = "".join(rf"\newcommand{{\book{name}}}{{{value}}}" for name, value in facts.items())
    setup = [
        *(_box(kind, *colors) for kind, colors in _BOXES.items()),
        "hmargin={2.3cm,2.3cm}",
        "vmargin={2.4cm,2.6cm}",
    ]
    setup += ["TitleColor={RGB}{20,40,70}", "InnerLinkColor={RGB}{0,80,140}", "OuterLinkColor={RGB}{140,60,0}"]
    ours = {
        "papersize": "a4paper",
        "pointsize": "11pt",
        "extraclassoptions": "openany,oneside",
        "fncychap": "",
        "pxunit": "0.6bp",  # the widest figures, 740 pixels, fill the line
        "fvset": r"\fvset{fontsize=\footnotesize}",
        "fontpkg": (_HERE / "fonts.tex").read_text(encoding="utf-8"),
        "sphinxsetup": ",".join(setup),
        "preamble": commands + "\n" + (_HERE / "book.tex").read_text(encoding="utf-8"),
        "maketitle": r"\maketitlepage",
        "tableofcontents": r"\contentspages",
    }
    # After sphinx-jupyterbook-latex, whose part of the preamble loads the mathematics.
    ours["preamble"] = config.latex_elements.get("preamble", "") + ours["preamble"]
    config.latex_elements = {**ours, **{k: v for k, v in config.latex_elements.items() if k != "preamble"}}
    config.latex_additional_files = [*config.latex_additional_files, "book/_static/one-mixture.png"]


def break_signatures(app: Sphinx) -> None:
    """On paper each argument of a long signature stands on a line of its own."""
    if app.builder.name == "latex":
        app.config.maximum_signature_line_length = 80


class MarkBibliography(SphinxPostTransform):
    """Remembers where the references stand; Sphinx moves them to the end of the document."""

    default_priority = 740
    formats = ("latex",)

    def run(self, **kwargs: object) -> None:
        """Called by Sphinx for each document that is written."""
        for citation in list(self.document.findall(nodes.citation))[:1]:
            citation.parent.insert(citation.parent.index(citation), nodes.comment(classes=["bibliography"]))


class PlaceBibliography(SphinxPostTransform):
    """Puts the references back, onto the page of the bibliography."""

    default_priority = 760
    formats = ("latex",)

    def run(self, **kwargs: object) -> None:
        """Called by Sphinx for each document that is written."""
        marks = [mark for mark in self.document.findall(nodes.comment) if "bibliography" in mark["classes"]]
        for references, mark in zip(list(self.document.findall(thebibliography)), marks):
            self.document.remove(references)
            mark.parent.replace(mark, references)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_post_transform(MarkBibliography)
    app.add_post_transform(PlaceBibliography)
    app.connect("builder-inited", break_signatures)
    app.connect("config-inited", settings, priority=700)
