"""Decisions on the web page: accept, override, comment, withdraw, and who may."""

from typing import TYPE_CHECKING

import httpx
import pytest

from benchmarks.api.fill import HOSTILE
from benchmarks.page.browser import settle
from tests.support.page import DECIDER, IDLE, READER, Site, opened
from tests.support.page_steps import close_evidence, go, open_evidence, sign_in
from tests.unit.factories import CONFIG

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.real


def test_a_statement_is_accepted_by_a_click(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "fleet")
        sign_in(page, DECIDER)
        go(page, where, f"#/image/{CONFIG}")
        box = open_evidence(page, "CVE-2099-0001")
        row = page.locator("tr.statement", has_text="CVE-2099-0001")
        before = row.locator(".badge, .status").first.text_content()
        assert box.get_by_label("Accept: it stays affected").is_checked()
        assert box.get_by_label("Status").is_hidden()
        box.get_by_role("button", name="Accept").click()
        assert box.get_by_label("Reason").evaluate("one => !one.validity.valid")  # one is wanted
        box.get_by_label("Reason").fill("Known; the next release has the fix.")
        box.get_by_role("button", name="Accept").click()
        page.locator("#toast").get_by_text("Handed on").wait_for()
        page.get_by_role("button", name="Changed meanwhile: show").wait_for()
        close_evidence(page, "CVE-2099-0001")
        row.get_by_text("decided").wait_for()
        assert row.locator(".badge, .status").first.text_content() == before
        box = open_evidence(page, "CVE-2099-0001")
        box.locator(".facts").get_by_text("token alice").wait_for()
        assert "the next release has the fix" in box.inner_text()
        box.get_by_role("button", name="Withdraw the decision").click()
        page.get_by_role("button", name="Changed meanwhile: show").wait_for()
        close_evidence(page, "CVE-2099-0001")
        row.get_by_text("decided").wait_for(state="detached")


def test_decisions_are_written_shown_and_withdrawn(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, f"#/image/{CONFIG}")
        page.get_by_text("not affected").first.wait_for()
        box = open_evidence(page, "CVE-2099-0002")
        box.get_by_role("button", name="Enter a token").click()
        page.locator("#token-value").fill(DECIDER)
        page.get_by_role("button", name="Use it").click()
        settle(page)

        box = open_evidence(page, "CVE-2099-0002")
        box.get_by_label("Comment only").check()
        box.get_by_label("Reason").fill(f"Asked the team. {HOSTILE}")
        box.get_by_role("button", name="Comment").click()
        box.locator(".comments li", has_text=HOSTILE).wait_for()

        box.get_by_label("Override").check()
        box.get_by_label("Status").select_option("affected")
        box.get_by_label("Reason").fill("It is called by a cron job once a month.")
        box.get_by_label("Author").fill("Alice of platform security")
        box.get_by_role("button", name="Override").click()
        close_evidence(page, "CVE-2099-0002")
        row = page.locator("tr.statement", has_text="CVE-2099-0002")
        row.get_by_text("decided").wait_for()
        assert "affected" in row.inner_text()
        assert "not affected" not in row.inner_text()
        box = open_evidence(page, "CVE-2099-0002")
        facts = box.locator(".facts")
        facts.get_by_text("Alice of platform security").wait_for()
        assert "token alice" in facts.inner_text()
        assert "once a month" in box.inner_text()

        box.get_by_role("button", name="Withdraw the decision").click()
        close_evidence(page, "CVE-2099-0002")
        row.get_by_text("not affected").wait_for()
        assert "decided" not in row.inner_text()
        assert page.evaluate("localStorage.getItem('token')") is None


def test_a_vendors_document_is_withdrawn(where: Site, chromium: "Browser") -> None:
    given = {
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://vendor.example/1",
        "author": "Vendor", "timestamp": "2024-01-01T00:00:00Z", "version": 1,
        "statements": [{"vulnerability": {"name": "CVE-2099-0002"}, "status": "fixed",
                        "products": [{"@id": IDLE}]}],
    }  # fmt: skip
    bearer = {"Authorization": f"Bearer {DECIDER}"}
    httpx.post(f"{where.url}/vendor-vex", json=given, headers=bearer).raise_for_status()
    with opened(chromium) as page:
        go(page, where, "fleet")
        sign_in(page, DECIDER)
        go(page, where, f"#/image/{CONFIG}")
        row = page.locator("tr.statement", has_text="CVE-2099-0002")
        row.get_by_text("fixed").first.wait_for()
        box = open_evidence(page, "CVE-2099-0002")
        box.locator(".facts").get_by_text("https://vendor.example/1 version 1").wait_for()
        assert box.get_by_role("button", name="Withdraw the decision").count() == 0
        box.get_by_role("button", name="Withdraw the vendor's document").click()
        sure = "Withdraw https://vendor.example/1 for every image"
        box.get_by_role("button", name=sure).click()
        close_evidence(page, "CVE-2099-0002")
        row.get_by_text("not affected").wait_for()


def test_who_may_not_decide_is_told_so(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "fleet")
        sign_in(page, READER)
        go(page, where, f"#/image/{CONFIG}")
        box = open_evidence(page, "CVE-2099-0001")
        box.get_by_text("The token bob has no scope decide.").wait_for()
        assert box.locator("form").count() == 0


def test_a_vendors_document_is_listed_and_withdrawn(where: Site, chromium: "Browser") -> None:
    document = f"https://vendor.example/{HOSTILE}"
    said = {
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": document, "version": 1,
        "author": f"Vendor {HOSTILE}", "timestamp": "2024-01-01T00:00:00Z",
        "statements": [{
            "vulnerability": {"name": "CVE-2099-0009"}, "status": "fixed",
            "products": [{"@id": "pkg:deb/debian/nowhere@1"}],
        }],
    }  # fmt: skip
    bearer = {"Authorization": f"Bearer {DECIDER}"}
    given = httpx.post(f"{where.url}/vendor-vex", json=said, headers=bearer, timeout=60)
    assert given.status_code == 202, given.text
    with opened(chromium) as page:
        go(page, where, "fleet")
        page.get_by_role("link", name="Vendors").click()
        row = page.locator("tr.vendor", has_text=HOSTILE)
        row.wait_for()
        assert "by token alice" in row.inner_text()
        row.locator("button.open").click()
        assert page.get_by_role("button", name="Withdraw the vendor's document").count() == 0
        sign_in(page, DECIDER)
        row.locator("button.open").click()
        button = page.get_by_role("button", name="Withdraw the vendor's document")
        button.click()
        page.get_by_role("button", name="for every image").click()
        page.locator("#toast").get_by_text("Withdrawn").wait_for()
        page.get_by_role("button", name="Changed meanwhile: show").click()
        row.get_by_text("by token alice").nth(1).wait_for()
        row.filter(has_text="withdrawn").wait_for()  # it may just be written anew
