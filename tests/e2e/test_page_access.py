"""The web page for everybody: axe, every width, the keyboard, and names that strangers chose."""

from typing import TYPE_CHECKING

import pytest

from benchmarks.api.fill import HOSTILE
from benchmarks.page.browser import settle
from tests.support.page import DECIDER, Site, opened
from tests.support.page_steps import HOSTILE_IMAGE, PAGES, go, open_evidence, sign_in, violations
from tests.unit.factories import CONFIG

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.real


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(where: Site, chromium: "Browser", scheme: str) -> None:
    found = {}
    # axe evaluates text, which the page's own policy forbids.
    with opened(chromium, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce") as page:
        for name in PAGES:
            go(page, where, name)
            if name == "statements":
                page.locator("button.open").first.click()
                page.locator(".evidence h3").first.wait_for()
            found[name] = violations(page)
        sign_in(page, DECIDER)
        go(page, where, f"#/image/{CONFIG}")
        open_evidence(page, "CVE-2099-0002")
        page.locator(".decide form").wait_for()
        found["decision"] = violations(page)
        page.locator("#token").click()
        found["token"] = violations(page)
    assert {name: broken for name, broken in found.items() if broken} == {}


@pytest.mark.parametrize("width", [360, 800, 1280])
def test_no_page_scrolls_sideways(where: Site, chromium: "Browser", width: int) -> None:
    with opened(chromium, width=width) as page:
        for name in PAGES:
            go(page, where, name)
            if name == "statements":
                page.locator("button.open").first.click()
                page.locator(".evidence h3").first.wait_for()
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, name


def test_by_keyboard_and_the_switch_of_themes(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "statements")
        opener = page.locator("button.open").first
        opener.focus()
        page.keyboard.press("Enter")
        page.locator(".evidence h3").first.wait_for()
        assert opener.get_attribute("aria-expanded") == "true"
        page.keyboard.press("Enter")
        assert opener.get_attribute("aria-expanded") == "false"
        page.locator("#token").focus()
        page.keyboard.press("Enter")
        page.locator("dialog[open]").wait_for()
        page.keyboard.press("Escape")
        page.locator("dialog").wait_for(state="detached")
        back = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(back)
        for _ in range(2):
            page.locator("#theme").click()
        assert page.locator("#theme").inner_text() == "Dark"
        assert page.evaluate(back) != light
        page.reload()
        assert page.evaluate(back) != light, "the choice stays"


def test_hostile_names_stay_text(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        for name in ("fleet", "search", "statements", "#/?q=%3Cimg src=x onerror=alert(1)%3E",
                     "#/cve/%3Cimg%20src=x%20onerror=alert(1)%3E", "#/image/javascript:alert(1)",
                     f"#/image/{HOSTILE_IMAGE}/documents"):  # fmt: skip
            go(page, where, name)
            assert page.locator("img, iframe, object, embed, main script").count() == 0
        go(page, where, "statements")
        page.locator("#find").fill(HOSTILE)
        row = page.locator("tr.statement", has_text=HOSTILE)
        row.wait_for()
        page.locator("#find").fill("")
        page.locator(".toggle.affected").click()
        settle(page)
        page.locator("button.open").first.click()
        page.locator(".evidence .path", has_text=HOSTILE).wait_for()
        assert page.locator("img").count() == 0
        assert page.locator("a[href^='javascript']").count() == 0
