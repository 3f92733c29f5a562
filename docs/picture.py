"""Takes the README's picture of a running site: `python docs/picture.py ADDRESS docs/site.png`."""

import io
import os
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright


def take(address: str, width: int = 1280, height: int = 860) -> bytes:
    """Returns a page of the site, its tiles and charts there, as a PNG of 256 colours."""
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage"])
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto(address)
        for state in ("running", "notRunning"):
            page.locator(f"[data-testid=stApp][data-test-script-state={state}]").wait_for(timeout=180_000)
        page.wait_for_timeout(5_000)  # what was drawn last fades in
        seen = Image.open(io.BytesIO(page.screenshot()))
        browser.close()
    file = io.BytesIO()
    palette = seen.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    palette.save(file, "PNG", optimize=True)
    return file.getvalue()


if __name__ == "__main__":
    Path(sys.argv[2]).write_bytes(take(sys.argv[1]))
