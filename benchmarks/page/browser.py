"""The real browser: Debian's Chromium, headless, driven by Playwright."""

import contextlib
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

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


def settle(page: "Page") -> None:
    """Waits until all that the page shows at first is there: first its heading, then the rest."""
    from playwright.sync_api import expect

    page.locator("main h1, main [role=alert]").first.wait_for(state="attached")
    expect(page.get_by_text("Loading.", exact=True)).to_have_count(0, timeout=30_000)
    expect(page.locator("main [aria-busy]")).to_have_count(0, timeout=30_000)


def _executable() -> str | None:
    return next((found for found in map(shutil.which, _NAMES) if found), None)
