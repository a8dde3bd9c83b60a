"""Draws the README's picture: `make picture`. Starts the demo and takes it in Debian's Chromium."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]


def main() -> None:
    demo = subprocess.Popen(  # noqa: S603  # our own server
        [sys.executable, ROOT / "server.py", "demo", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert demo.stdout is not None
        address = re.search(r"http://\S+", demo.stdout.readline())
        assert address is not None, "the demo names no address"
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
            page = browser.new_page(locale="zh-CN", viewport={"width": 1120, "height": 620})
            page.goto(f"{address[0]}login")
            page.wait_for_timeout(500)
            page.screenshot(path=ROOT / "docs" / "login.png")
            browser.close()
    finally:
        demo.terminate()
        demo.wait()


if __name__ == "__main__":
    main()
