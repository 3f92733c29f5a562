"""A server of the real site and a real browser, for tests that click."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from apps.pathology.reader import open_slide
from apps.pathology.shelf import SAMPLE
from data.slides.pyramid import write_pyramid
from tests.apps.go import untrained

ROOT = Path(__file__).parents[2]
expect.set_options(timeout=60_000)  # a busy machine is slow, not wrong
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A server's own folder with a slide of a moment, and one of minutes."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "slides").mkdir()
    with open_slide(SAMPLE / "synthetic.tif") as slide:
        write_pyramid(folder / "slides" / "small.tif", slide.read_at(500, 450, 400, 320, 1), 0.5)
        tissue = slide.read_at(300, 300, 700, 700, 1)
    write_pyramid(folder / "slides" / "large.tif", np.tile(tissue, (5, 5, 1)), 2.0, quality=80)  # 50,000 cells
    return folder


@pytest.fixture(scope="session")
def site(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running site."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    environment = os.environ | {"WUNDERKAMMER_DATA": str(data), "WUNDERKAMMER_CACHE": str(tmp_path_factory.mktemp("c"))}
    environment.pop("WUNDERKAMMER_PATHOLOGY", None)
    environment["WUNDERKAMMER_GO"] = str(untrained.write(tmp_path_factory.mktemp("go") / "go.safetensors"))
    command = [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.headless", "true",
               "--server.port", str(port)]
    with open(log, "wb") as out:
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(600):
            assert server.poll() is None, log.read_text()
            try:
                if urllib.request.urlopen(f"{address}/_stcore/health", timeout=1).read() == b"ok":
                    break
            except OSError:
                time.sleep(0.1)
        else:
            pytest.fail(f"the site did not start: {log.read_text()}")
        yield address
    finally:
        server.terminate()
        server.wait(20)
    written = log.read_text()
    assert "Traceback" not in written, written


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, as Debian packages it."""
    assert CHROMIUM, "no chromium is installed: apt-get install chromium, or set CHROMIUM to where one is"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield running
        running.close()


class Visitor:
    """A visitor with a browser window of their own; remembers what their page asked for and what went wrong."""

    def __init__(self, context: BrowserContext, site: str) -> None:
        self.page: Page = context.new_page()
        self.page.set_default_timeout(120_000)
        self.site = site
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.requests.append(socket.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def open(self, path: str = "/") -> Page:
        """Goes to a page of the site."""
        self.page.goto(self.site + path)
        return self.page

    def overflow(self) -> int:
        """How many pixels the page is wider than the window."""
        whole, main = "document.documentElement", "document.querySelector('[data-testid=stMain]')"
        return self.page.evaluate(f"Math.max({whole}.scrollWidth, {main}.scrollWidth) - innerWidth")


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Callable[..., Visitor]]:
    """Makes visitors; at the end no page may have had a script error, or asked another server for anything."""
    contexts: list[BrowserContext] = []
    visitors: list[Visitor] = []

    def arrive(width: int = 1280, height: int = 900, **options: object) -> Visitor:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **options))
        visitors.append(Visitor(contexts[-1], site))
        return visitors[-1]

    yield arrive
    for context in contexts:
        context.close()
    own = (site, site.replace("http", "ws"), "data:", f"blob:{site}")
    for visitor in visitors:
        assert not visitor.errors
        assert not [url for url in visitor.requests if not url.startswith(own)]
