"""The long lists of the web page: filters, reading on, and what stays while they change."""

import time
from typing import TYPE_CHECKING

import pytest

from benchmarks.api.fill import record
from benchmarks.page.browser import settle
from tests.support.page import LARGE, Site, opened
from tests.support.page_steps import go, violations

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.real


def test_the_filters_of_statements(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "statements")
        said = page.locator(".foot .said")
        assert said.inner_text() == f"{LARGE} statements"
        rows = page.locator("tr.statement")
        assert rows.count() >= 100
        assert "affected" in rows.first.inner_text()
        page.locator(".toggle.affected").click()
        page.locator(".toggle.medium").click()
        page.wait_for_url("**severity=medium*")
        settle(page)
        texts = rows.all_inner_texts()
        assert texts
        assert all("Medium" in t and "not affected" not in t for t in texts)
        page.locator("#find").fill("nothing like this")
        page.get_by_text("No statement fits.").wait_for()


def test_what_is_open_stays_open_while_the_list_is_drawn_anew(
    where: Site, chromium: "Browser"
) -> None:
    """By a filter that it fits, and by a change of the image, which is offered and not forced."""
    with opened(chromium) as page:
        go(page, where, "statements")
        second = page.locator("tr.statement").nth(1)
        second.locator("button.open").click()
        evidence = page.locator(".evidence")
        evidence.locator("h3").first.wait_for()
        page.evaluate("window.kept = [...document.querySelectorAll('tr.detail, tr.statement')][1]")
        page.locator(".toggle.affected").click()
        settle(page)
        assert evidence.count() == 1
        assert page.evaluate("kept.isConnected && kept.nextElementSibling.matches('.detail')")
        assert second.locator("button.open").get_attribute("aria-expanded") == "true"
        page.locator("#live.on").wait_for()
        where.publish(record(0, LARGE, time.time_ns() // 1000, 3))
        page.get_by_text("Version 3,").wait_for()
        page.get_by_role("button", name="Changed meanwhile: show").wait_for()
        assert page.evaluate("kept.isConnected")
        second.locator("button.open").click()
        page.get_by_role("button", name="Changed meanwhile: show").wait_for(state="hidden")
        settle(page)


def test_who_leaves_an_image_is_not_taken_back_by_a_filter(
    where: Site, chromium: "Browser"
) -> None:
    with opened(chromium) as page:
        go(page, where, "statements")
        page.locator("#find").fill("zlib")
        page.evaluate("location.hash = '#/'")
        page.wait_for_timeout(600)  # more than the filter waits for further keys
        settle(page)
        assert page.url.endswith("#/")
        assert page.locator(".images tbody tr").count() == 50


def read_on(page: "Page", rows: int) -> None:
    """Scrolls until so many rows are there."""
    while page.locator("tr.statement").count() < rows:
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(50)


def test_what_is_read_on_comes_in_groups_that_cost_nothing_beyond_the_screen(
    where: Site, chromium: "Browser"
) -> None:
    with opened(chromium, bypass_csp=True) as page:
        go(page, where, "statements")
        read_on(page, LARGE)
        assert page.locator(".long > tbody > tr.statement").count() == LARGE
        groups = page.locator(".long > tbody.later[role=rowgroup]")
        assert groups.count() == (LARGE - 100) // 25
        assert page.evaluate(
            "[...document.querySelectorAll('.later')].every("
            "(one) => getComputedStyle(one).contentVisibility === 'auto')"
        )
        assert violations(page) == []
        last = page.locator("tr.statement").last
        last.locator("button.open").focus()
        page.keyboard.press("Enter")
        page.locator(".later .evidence h3").first.wait_for()
        page.locator(".toggle.affected").click()
        page.wait_for_url("**status=affected")
        settle(page)
        assert groups.count() == 0, "filtered anew, the list begins anew"


@pytest.mark.parametrize("width", [360, 1280])
def test_back_leads_to_the_row_one_came_from(where: Site, chromium: "Browser", width: int) -> None:
    with opened(chromium, width=width) as page:
        go(page, where, "statements")
        read_on(page, 300)
        came_from = page.locator("tr.statement a.cve").nth(250)
        text = came_from.text_content()
        # When it is clicked: rows around it may be laid out until then.
        came_from.evaluate(
            "(one) => one.addEventListener('click', () => {"
            " window.top_then = one.getBoundingClientRect().top; })"
        )
        came_from.click()
        page.get_by_role("heading", name=text, level=1).wait_for()
        assert page.evaluate("scrollY") == 0
        page.go_back()
        page.locator("a.cve:focus", has_text=text).wait_for()
        there = page.evaluate("document.activeElement.getBoundingClientRect().top")
        assert abs(there - page.evaluate("top_then")) < 3
        assert page.locator("tr.statement").count() >= 300
