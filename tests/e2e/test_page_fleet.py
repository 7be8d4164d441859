"""The fleet on the web page: its figures, search, filters, and that it stays live."""

import re
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from benchmarks.api.fill import image, record
from benchmarks.page.browser import settle
from tests.support.page import IMAGES, Site, opened
from tests.support.page_steps import go

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.real


def test_the_fleet_in_figures(where: Site, chromium: "Browser") -> None:
    figures = httpx.get(f"{where.url}/fleet").json()
    with opened(chromium) as page:
        go(page, where, "fleet")
        text = page.locator(".summary").inner_text()
        left, whole = figures["still_open"], figures["findings"]
        assert f"{whole - left:,} of {whole:,} findings need no look; {left:,} are left." in text
        assert re.search(r"\d+ % ?noise removed", text.replace("\n", " "))
        before = page.locator(".severities tbody tr").first.inner_text()
        assert before.startswith("Critical")
        assert "still learning" in text
        assert page.locator(".urgent tbody tr").count() == len(figures["urgent"])
        first = page.locator(".urgent tbody tr").first
        assert first.locator(".kev").count() == 1, "what is exploited comes first"
        used = [one for one in figures["urgent"] if one["images"].get("affected")]
        shown = [one["vulnerability"] for one in sorted(used, key=_urgency, reverse=True)]
        assert page.locator(".urgent .cve").all_inner_texts()[: len(used)] == shown
        assert page.locator(".images tbody tr").count() == 50
        page.mouse.wheel(0, 100_000)
        page.locator(".images tbody tr").nth(IMAGES).wait_for()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("zlib1g", ".chip >> text=zlib1g"),
        ("CVE-2099-0001", ".chip >> text=CVE-2099-0001"),
        ("ghsa-aaaa-bbbb-cccc", ".chip >> text=CVE-2099-0002"),
        ("payments", ".chip >> text=payments"),
        (image(7).config_digest[:30], f".images tr[data-digest='{image(7).config_digest}']"),
        (image(7).manifest_digests[0][:30], f".images tr[data-digest='{image(7).config_digest}']"),
    ],
)
def test_search(where: Site, chromium: "Browser", words: str, found: str) -> None:
    with opened(chromium) as page:
        go(page, where, "fleet")
        page.keyboard.press("/")
        page.keyboard.type(words)
        page.locator(found).first.wait_for()
        settle(page)
        assert 0 < page.locator(".images tbody tr").count() <= IMAGES


def test_a_whole_digest_leads_to_its_image(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "fleet")
        page.locator("#q").fill(image(7).manifest_digests[0])
        page.locator("#q").press("Enter")
        page.get_by_role("heading", name="auth-7").wait_for()


def test_the_filters_of_the_fleet(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "fleet")
        page.get_by_label("Namespace", exact=True).select_option("payments")
        page.get_by_label("State", exact=True).select_option("scan_failed")
        page.get_by_text("No image fits.").or_(page.locator(".images .state").first).wait_for()
        settle(page)
        rows = page.locator(".images tbody tr:has(.name)").all_inner_texts()
        assert all("scan failed" in row for row in rows)
        page.reload()
        settle(page)
        assert page.get_by_label("Namespace", exact=True).input_value() == "payments"


def test_a_change_shows_without_a_reload(where: Site, chromium: "Browser") -> None:
    now_us = time.time_ns() // 1000
    changed = record(11, 60, now_us, 3)
    with opened(chromium) as page:
        go(page, where, f"#/?q={image(11).config_digest[:40]}")
        page.locator("#live.on").wait_for()
        row = page.locator(f"tr[data-digest='{image(11).config_digest}']")
        before = row.inner_text()
        with opened(chromium) as beside:
            go(beside, where, f"#/image/{image(11).config_digest}")
            beside.locator("#live.on").wait_for()
            where.publish(changed)
            beside.get_by_text("Version 3,").wait_for()
        page.locator("tr.changed").wait_for()
        assert row.inner_text() != before


def _urgency(one: dict[str, Any]) -> tuple[bool, float]:
    """Known exploited first, then by EPSS; what is alike stays as it comes."""
    return one["known_exploited"], one["epss"] or 0.0
