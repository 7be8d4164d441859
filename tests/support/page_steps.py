"""What the tests of the web page do on it, each in a step."""

from typing import TYPE_CHECKING, Any

from benchmarks.api.fill import image
from benchmarks.page.browser import settle
from tests.support.page import Site

if TYPE_CHECKING:
    from playwright.sync_api import Page

HOSTILE_IMAGE = image(0).config_digest
PLAIN_IMAGE = image(3).config_digest
PAGES = {
    "fleet": "",
    "search": "#/?q=zlib",
    "statements": f"#/image/{HOSTILE_IMAGE}",
    "coverage": f"#/image/{PLAIN_IMAGE}/coverage",
    "history": f"#/image/{PLAIN_IMAGE}/history",
    "documents": f"#/image/{PLAIN_IMAGE}/documents",
    "awaiting": f"#/image/{image(39).config_digest}",
    "vulnerability": "#/cve/CVE-2099-0002",
    "vendors": "#/vendors",
    "unknown": f"#/image/sha256:{'0' * 64}",
}


def go(page: "Page", where: Site, name: str) -> None:
    page.goto("about:blank")  # else only the fragment changes, and the former page is still there
    page.goto(f"{where.url}/{PAGES.get(name, name)}")
    settle(page)


def sign_in(page: "Page", secret: str) -> None:
    page.locator("#token").click()
    page.locator("#token-value").fill(secret)
    page.get_by_role("button", name="Use it").click()
    settle(page)


def open_evidence(page: "Page", vulnerability: str) -> Any:
    row = page.locator("tr.statement", has_text=vulnerability)
    row.locator("button.open").click()
    box = page.get_by_role("region", name=f"Evidence for {vulnerability}")
    box.locator("h3").first.wait_for()
    return box


def close_evidence(page: "Page", vulnerability: str) -> None:
    page.locator("tr.statement", has_text=vulnerability).locator("button.open").click()


def violations(page: "Page") -> list[str]:
    """What axe finds."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"][:3]]
