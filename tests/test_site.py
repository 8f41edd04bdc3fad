"""The built site: links and pictures are there, and nothing is wider than a screen.

``python -m pytest -m site tests/test_site.py``, behind ``python -m sphinx -W -b html docs
docs/_build/html``.
"""

from __future__ import annotations

import contextlib
import functools
import html
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

SITE = Path(__file__).parents[1] / "docs" / "_build" / "html"
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), "")
pytestmark = [
    pytest.mark.site,
    pytest.mark.skipif(not SITE.is_dir(), reason="the site is not built"),
]

# One page of the browser's looks at all pages of the site, each in a frame of a screen's width.
LOOK = """<!doctype html><title>look</title><pre id="found">nothing</pre><script>
const pages = PAGES, screens = SCREENS, found = [];
const pause = time => new Promise(done => setTimeout(done, time));
async function open(path, width) {
    const frame = document.createElement("iframe");
    frame.style.width = width + "px"; frame.style.height = "900px"; frame.style.border = "0";
    const loaded = new Promise(done => { frame.onload = done; });
    frame.src = path; document.body.append(frame);
    await loaded;
    return frame;
}
async function look(page, width, theme) {
    const frame = await open("/" + page, width), inside = frame.contentDocument;
    const root = inside.documentElement, tell = what => found.push([page, width, theme, what]);
    for (const picture of inside.images) picture.loading = "eager";
    await Promise.all([...inside.images].map(picture => picture.decode().catch(() => 0)));
    for (const picture of inside.images)
        if (!picture.naturalWidth) tell("no picture " + picture.src);
    if (root.scrollWidth > root.clientWidth + 1) {
        const wide = [...inside.querySelectorAll("main *")].find(
            one => one.getBoundingClientRect().right > root.clientWidth + 1);
        tell(`${root.scrollWidth} wide: ${wide ? wide.outerHTML.slice(0, 120) : "?"}`);
    }
    const colour = frame.contentWindow.getComputedStyle(inside.body).backgroundColor;
    const light = colour.match(/[0-9]+/g).slice(0, 3).every(part => part > 128);
    if (light !== (theme === "light")) tell("the ground is " + colour);
    frame.remove();
}
async function all() {
    for (const [width, theme, most] of screens) {
        localStorage.setItem("mode", theme); localStorage.setItem("theme", theme);
        const left = pages.slice(0, most);
        const work = async () => { while (left.length) await look(left.pop(), width, theme); };
        await Promise.all([work(), work(), work(), work()]);
    }
    const frame = await open("/search.html?q=learning+rate", 1280);
    let links = [];
    for (let tries = 0; tries < 100 && !links.length; tries++) {
        await pause(100);
        links = [...frame.contentDocument.querySelectorAll("#search-results li a")];
    }
    document.getElementById("found").textContent =
        JSON.stringify({found, links: links.map(link => link.pathname)});
}
all().catch(error => { document.getElementById("found").textContent = String(error); });
</script>"""


class Page(HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            if name in ("id", "name") and value:
                self.places.add(value)


@functools.cache
def pages() -> dict[Path, Page]:
    paths = sorted(SITE.rglob("*.html"))
    return {path: Page(path) for path in paths if "_static" not in path.parts}


def test_every_link_leads_somewhere() -> None:
    broken = []
    assert len(pages()) > 50
    for path, page in pages().items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                assert parts.scheme != "file", (path, link)
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists():
                broken.append((path.name, link))
            elif parts.fragment and target in pages():
                places = pages()[target].places
                broken += [(path.name, link)] * (unquote(parts.fragment) not in places)
    assert not broken


def test_no_page_shows_where_it_was_built() -> None:
    home = str(SITE.parents[2])
    for path in pages():
        assert home not in path.read_text("utf-8"), path


@contextlib.contextmanager
def served(look: str) -> Iterator[str]:
    """Serve the site, and the page that looks at it, to this machine."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/look.html":
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(look.encode())

        def log_message(self, *_: Any) -> None:
            pass

    handler = functools.partial(Handler, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/look.html"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.skipif(not BROWSER, reason="no browser is installed")
def test_every_page_fits_a_screen_and_the_search_finds(tmp_path: Path) -> None:
    paths = [path.relative_to(SITE).as_posix() for path in pages()]
    paths = [path for path in paths if not path.startswith(("_modules", "genindex", "search"))]
    # Pages by hand come first: they are seen on all screens, the others on two.
    paths.sort(key=lambda path: path.startswith("reference/api"))
    screens = [(1280, "light", 999), (390, "dark", 999), (1280, "dark", 20), (390, "light", 20)]
    look = LOOK.replace("PAGES", json.dumps(paths)).replace("SCREENS", json.dumps(screens))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    options += [f"--user-data-dir={tmp_path}", "--virtual-time-budget=600000", "--dump-dom"]
    with served(look) as address:
        seen = subprocess.run(
            [BROWSER, *options, address], capture_output=True, text=True, timeout=300, check=True
        )
    said = re.search(r'<pre id="found">(.*?)</pre>', seen.stdout, re.DOTALL)
    assert said is not None, seen.stdout[-2000:]
    told = json.loads(html.unescape(said[1]))
    assert told["found"] == []
    assert any("learning_rate" in link for link in told["links"]), told["links"]
