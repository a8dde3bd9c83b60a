"""The examples' pages are tested in the same Chromium as our own."""

from tests.pages.conftest import browser, chromium

__all__ = ["browser", "chromium"]
