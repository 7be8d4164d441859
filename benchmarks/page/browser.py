"""The real browser: Debian's Chromium, headless, driven by Playwright."""

import contextlib
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic",
    "--no-first-run", "--disable-component-update", "--disable-sync",
]  # fmt: skip


def missing() -> str | None:
    """What is missing to start a browser, and how to get it; None when all is there."""
    if find_spec("playwright") is None:
        return "no Playwright: pip install playwright"
    if _executable() is None:
        return "no Chromium: apt-get install chromium-headless-shell"
    return None


@contextlib.contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser with a profile of its own, which is gone afterwards."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_executable(), args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def _executable() -> str | None:
    return next((found for found in map(shutil.which, _NAMES) if found), None)
