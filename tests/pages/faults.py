"""What a browser complains of on a page."""

from __future__ import annotations

from playwright.async_api import Page


def faults_of(page: Page) -> list[str]:
    """Grows with each error of a script, and with whatever the policy did not allow."""
    found: list[str] = []
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on(
        "console", lambda line: found.append(line.text) if "Content Security Policy" in line.text else None
    )
    return found
