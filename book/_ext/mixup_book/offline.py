"""Everything a page loads lies beside it: MathJax, plotly.js and the icons, each cut to what the book uses.

They are copied from installed packages when the book is built; nothing of them is kept in the repository.
"""

from __future__ import annotations

import re
import shutil
from importlib.metadata import files
from pathlib import Path
from typing import Any

import plotly
import pydata_sphinx_theme
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

from mixup_book import outputs, plotly_bundle

_logger = logging.getLogger(__name__)
# From a disk some browsers refuse to load fonts; there the larger bundle serves, which draws its glyphs.
_MATHJAX_LOADER = """(() => {
  const script = document.createElement("script");
  const bundle = location.protocol === "file:" ? "tex-svg.js" : "tex-chtml.js";
  script.src = document.currentScript.src.replace(/load\\.js.*$/, bundle);
  document.head.append(script);
})();
"""
_ICONS = "scripts/fontawesome.js"
_ICON = re.compile(r'(?P<key>"[\w-]+"|[\w$]+):\[\d+,\d+,\[(?P<aliases>[^\]]*)\],"[0-9a-f]+",(?:"[^"]*"|\[[^\]]*\])\],?')


def mathjax_folder() -> Path:
    """Where the package sphinx-mathjax-offline keeps MathJax.

    Raises:
        ExtensionError: it is not installed.
    """
    for file in files("sphinx-mathjax-offline") or []:
        if file.name == "tex-chtml.js":
            return Path(str(file.locate())).parent
    raise ExtensionError("sphinx-mathjax-offline carries no tex-chtml.js: `make setup` installs what the book needs")


def copy_mathjax(app: Sphinx) -> None:
    """Copies the bundles that set TeX, the fonts, and the extensions that are loaded when a formula asks for them."""
    if app.builder.format != "html":
        return
    source, target = mathjax_folder(), Path(app.outdir, "_static", "mathjax")
    target.mkdir(parents=True, exist_ok=True)
    (target / "load.js").write_text(_MATHJAX_LOADER, encoding="utf-8")
    for bundle in ("tex-chtml.js", "tex-svg.js"):
        shutil.copyfile(source / bundle, target / bundle)
    for folder in ("output/chtml/fonts/woff-v2", "input/tex/extensions"):
        shutil.copytree(source / folder, target / folder, dirs_exist_ok=True)


def write_plotly(app: Sphinx, exception: Exception | None) -> None:
    """Writes plotly.js with the kinds of trace that the figures of the book have."""
    pages = getattr(app.env, outputs.TRACES, {})
    if exception or app.builder.format != "html" or not pages:
        return
    traces = set().union(*pages.values())
    source = Path(plotly.__file__).parent.joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    try:
        text = plotly_bundle.cut(source, traces)
    except plotly_bundle.UnknownForm as error:
        _logger.info("plotly.js is used whole: %s", error)
        text = source
    Path(app.outdir, "_static", "plotly.min.js").write_text(text, encoding="utf-8")


def cut_icons(app: Sphinx, exception: Exception | None) -> None:
    """Leaves in Font Awesome (1.5 MB) the icons whose names occur on a page or in the theme's scripts."""
    if exception or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    source = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static" / _ICONS
    pages = [p for p in Path(app.outdir).rglob("*.html") if "_sources" not in p.parts]
    scripts = [p for p in static.rglob("*.js") if p.name != "fontawesome.js" and "mathjax" not in p.parts]
    used = {
        name for path in [*pages, *scripts] for name in re.findall(r"fa-([a-z0-9-]+)", path.read_text(encoding="utf-8"))
    }

    def keep(icon: re.Match[str]) -> str:
        names = {icon["key"].strip('"'), *re.findall(r'"([\w-]+)"', icon["aliases"])}
        return icon[0] if names & used else ""

    text = _ICON.sub(keep, source.read_text(encoding="utf-8"))
    (static / _ICONS).write_text(text, encoding="utf-8")


# The theme chooses light or dark when its script has loaded; until then the page has no colours.
_THEME = (
    "(() => { const data = document.documentElement.dataset;"
    ' if (!["light", "dark"].includes(data.theme))'
    ' data.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"; })();'
)


def drop_thebe(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """Takes thebe off the page: the book does not use it, its code is elsewhere, and it is declared twice."""
    for kind in ("script_files", "css_files"):
        files = context.get(kind, [])
        files[:] = [f for f in files if "thebe" not in f"{f.filename} {f.attributes.get('body', '')}".lower()]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_js_file(None, body=_THEME, priority=100)
    app.connect("builder-inited", copy_mathjax)
    app.connect("html-page-context", drop_thebe)
    app.connect("build-finished", write_plotly)
    app.connect("build-finished", cut_icons)
