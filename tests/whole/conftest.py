"""The whole is tested in the same Chromium as the pages."""

from tests.pages.conftest import browser, chromium

__all__ = ["browser", "chromium"]
