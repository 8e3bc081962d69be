"""The built book in a browser: `make look` runs this on `_build/html`, or on the folder that MIXUP_BOOK names.

Each page is opened once in headless Chromium, from a server on this machine, with every request to another host
refused and noted. What is looked at: requests and their weight, the console, unrendered mathematics, dead links,
accessibility (axe-core), the width on a phone. Then sliders are moved, sounds played, the search asked, the page
turned dark.
"""

import contextlib
import functools
import gzip
import http.server
import os
import re
import shutil
import threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import axe_playwright_python
import pytest
from playwright.sync_api import Page, sync_playwright
from playwright.sync_api import TimeoutError as PlaywrightTimeout

BOOK = Path(os.environ.get("MIXUP_BOOK", Path(__file__).parent.parent / "_build" / "html")).resolve()
GENERATED = {"genindex.html", "py-modindex.html", "search.html", "prf-prf.html"}  # the theme's own; opened, not judged
PAGES = [path.relative_to(BOOK).as_posix() for path in sorted(BOOK.rglob("*.html")) if "_static" not in path.parts]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HEAVIEST = 1_500_000  # bytes of a page and all it loads, compressed as a server sends it
TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")
AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
THEIRS = ("region", "label-content-name-mismatch", "landmark-unique")  # rules that the theme breaks on an empty page
UNRENDERED = """() => [...document.querySelectorAll('.math')].filter(e => !e.querySelector('mjx-container'))
    .concat([...document.querySelectorAll('mjx-merror')]).map(e => e.textContent.slice(0, 80))"""


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Anchors(HTMLParser):
    """The links of a page and the names they may point to."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.names |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])


@functools.cache
def anchors(path: Path) -> Anchors:
    return Anchors(path.read_text(encoding="utf-8"))


def dead_links(page: str) -> list[str]:
    """Links of a page to a file or a place in a file of the book that is not there."""
    dead = []
    for link in anchors(BOOK / page).links:
        target = urlsplit(urljoin(f"http://book/{page}", link))
        if target.netloc != "book" or target.scheme != "http":
            continue
        file = BOOK / unquote(target.path).strip("/")
        file = file / "index.html" if file.is_dir() else file
        name = unquote(target.fragment)
        if not file.is_file() or (name and file.suffix == ".html" and name not in anchors(file).names):
            dead.append(link)
    return dead


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Silent, directory=BOOK)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def chromium():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        args = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"]
        browser = playwright.chromium.launch(executable_path=found, args=args)
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium):
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    yield context.new_page()
    context.close()


def settle(tab: Page, url: str) -> None:
    """Open a page and wait until its mathematics is set."""
    tab.goto(url, wait_until="load")
    tab.wait_for_function("() => !window.MathJax || !MathJax.startup || !!MathJax.startup.promise")
    tab.evaluate("async () => { if (window.MathJax && MathJax.startup) await MathJax.startup.promise }")


def faults_of_axe(tab: Page) -> list[str]:
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    rules = {rule: {"enabled": False} for rule in THEIRS}
    found = tab.evaluate("rules => axe.run(document, {rules, resultTypes: ['violations']})", rules)
    return [f"{v['id']}: {n['html'][:160]}" for v in found["violations"] for n in v["nodes"][:3]]


def test_there_is_a_book_to_look_at():
    assert len(PAGES) > 10, f"no built book in {BOOK}: run make book"


@pytest.mark.parametrize("page", PAGES)
def test_page(page, tab, address):
    outside, weights, errors = [], [], []

    def let_pass(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            outside.append(route.request.url)
            route.abort()

    def weigh(response):
        if response.url.startswith(address):
            body = response.body() if response.ok else b""
            kind = response.headers.get("content-type", "")
            weights.append(len(gzip.compress(body)) if kind.startswith(TEXT) else len(body))
            if not response.ok:
                errors.append(f"{response.status} {response.url.removeprefix(address)}")

    tab.route("**/*", let_pass)
    tab.on("response", weigh)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    settle(tab, f"{address}/{page}")
    assert outside == []
    assert errors == []
    assert sum(weights) <= HEAVIEST
    if Path(page).name in GENERATED or "http-equiv" in (BOOK / page).read_text(encoding="utf-8")[:400]:
        return
    assert tab.evaluate(UNRENDERED) == []
    assert dead_links(page) == []
    assert faults_of_axe(tab) == []
    tab.set_viewport_size({"width": 390, "height": 844})
    with contextlib.suppress(PlaywrightTimeout):  # figures shrink a moment later
        tab.wait_for_function("document.scrollingElement.scrollWidth <= 390", timeout=10_000)
    assert tab.evaluate("document.scrollingElement.scrollWidth") <= 390, "the page is wider than a phone"


def pages_with(pattern: str) -> list[str]:
    return [page for page in PAGES if re.search(pattern, (BOOK / page).read_text(encoding="utf-8"))]


def test_the_dark_mode_is_readable(tab, address):
    (index,) = [page for page in PAGES if page.endswith("book/index.html")] or ["index.html"]
    for page in (index, *pages_with(r'class="interactive"')[:1]):
        settle(tab, f"{address}/{page}")
        tab.evaluate("localStorage.setItem('mode', 'dark'); localStorage.setItem('theme', 'dark')")
        tab.reload(wait_until="load")
        assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
        background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert sum(map(int, re.findall(r"\d+", background)[:3])) < 200, background
        assert faults_of_axe(tab) == []


def test_the_switch_turns_the_page_dark_and_light(tab, address):
    settle(tab, f"{address}/{PAGES[0]}")
    seen = set()
    for _ in range(3):
        tab.locator("button.theme-switch-button:visible").first.click()
        seen.add(tab.evaluate("document.documentElement.dataset.theme"))
    assert seen == {"dark", "light"}


@pytest.mark.parametrize("page", pages_with(r'class="interactive"'))
def test_a_slider_changes_its_figure(page, tab, address):
    settle(tab, f"{address}/{page}")
    figures = tab.locator("figure.interactive")
    figures.first.scroll_into_view_if_needed()
    tab.wait_for_selector("figure.interactive .js-plotly-plot", timeout=15_000)
    read = "f => JSON.stringify(f.querySelector('.js-plotly-plot').data)"
    first = figures.first
    before = first.evaluate(read)
    first.evaluate(
        """async f => { const plot = f.querySelector('.js-plotly-plot');
        const frames = plot._transitionData._frames; const last = frames[frames.length - 1];
        const now = {mode: 'immediate', frame: {duration: 0}, transition: {duration: 0}};
        await Plotly.animate(plot, [last.name], now) }"""
    )
    assert first.evaluate(read) != before
    assert first.locator(".slider-group, input[type=range]").count() > 0


@pytest.mark.parametrize("page", pages_with(r"<audio[^>]*controls"))
def test_a_sound_plays(page, tab, address):
    settle(tab, f"{address}/{page}")
    sound = tab.locator("audio").first
    played = sound.evaluate(
        """async a => { await a.play(); await new Promise(r => setTimeout(r, 400));
        return [a.duration, a.currentTime, a.error && a.error.message] }"""
    )
    assert played[0] > 0.2 and played[1] > 0 and played[2] is None


def test_the_search_finds_a_word(tab, address):
    settle(tab, f"{address}/search.html?q=partner")
    tab.wait_for_selector("#search-results li a", timeout=15_000)
    assert tab.locator("#search-results li a").count() > 3


def test_a_dead_link_is_found(tmp_path, monkeypatch):
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here">1</a><a href="#gone">2</a><a href="b.html">3</a><a href="https://x.org/">4</a>'
    )
    monkeypatch.setitem(globals(), "BOOK", tmp_path)
    assert dead_links("a.html") == ["#gone", "b.html"]
