"""What the web page says when there is nothing, no answer, no right, or a name that is a trap."""

import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from benchmarks.api.fill import image
from benchmarks.page.browser import settle
from tests.support.page import Site, opened
from tests.support.page_steps import go, open_evidence, sign_in, violations
from tests.unit.factories import CONFIG

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

pytestmark = pytest.mark.real

TURNED = "\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe\N{POP DIRECTIONAL FORMATTING}"
"""Where it has its way, it reads as exe.png."""
API = re.compile(r"(?<!/page)/(fleet|images|vex|vulnerabilities|search|stream)\b")


def test_a_fleet_without_images_says_what_to_do(where: Site, chromium: "Browser") -> None:
    figures = httpx.get(f"{where.url}/fleet").json()
    none = {name: type(value)() for name, value in figures.items()}

    with opened(chromium, bypass_csp=True) as page:
        page.route("**/fleet", lambda route: route.fulfill(json=none))
        page.route(
            "**/fleet/images?*",
            lambda route: route.fulfill(json={"items": [], "images": 0, "next": None}),
        )
        go(page, where, "fleet")
        page.get_by_role("heading", name="No image yet").wait_for()
        page.get_by_text("vexstream up").wait_for()
        page.get_by_text("No image yet.", exact=True).wait_for()
        assert violations(page) == []


@pytest.mark.parametrize("address", ["fleet", "statements", "vulnerability"])
def test_an_api_that_is_away_is_told_and_what_is_missing_comes_when_it_is_back(
    where: Site, chromium: "Browser", address: str
) -> None:
    with opened(chromium, bypass_csp=True) as page:
        page.route(API, lambda route: route.abort())
        go(page, where, address)
        page.get_by_text("not live").wait_for()
        page.get_by_role("button", name="Try again").first.wait_for()
        settle(page)
        assert page.get_by_text("The API does not answer.").count() == 1
        assert violations(page) == []
        page.unroute_all()
        page.locator("#live.on").wait_for()
        page.locator("table.long > tbody > tr td:not(.none)").first.wait_for()
        settle(page)
        assert page.get_by_text("The API does not answer.").count() == 0


def test_an_answer_from_a_proxy_is_told_and_tried_again(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        page.route("**/fleet/images?*", lambda route: route.fulfill(status=502, body="<html>"))
        go(page, where, "fleet")
        page.get_by_text("The API answered 502.").wait_for()
        page.unroute_all()
        page.get_by_role("button", name="Try again").click()
        page.locator(".images tbody tr .name").first.wait_for()


def test_a_stream_that_breaks_is_made_anew(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        page.route("**/stream", lambda route: route.abort())
        go(page, where, "fleet")
        page.get_by_text("not live").wait_for()
        assert page.locator(".images tbody tr .name").count() > 0
        page.unroute_all()
        page.locator("#live.on").get_by_text("live", exact=True).wait_for()


def test_a_token_that_nobody_knows_is_told(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "fleet")
        sign_in(page, "a-wrong-token")
        go(page, where, f"#/image/{CONFIG}")
        box = open_evidence(page, "CVE-2099-0001")
        box.get_by_text("The API does not know this token.").wait_for()
        assert box.locator("form").count() == 0


def test_why_an_image_has_no_statement(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "awaiting")
        said = page.get_by_text("The image waits for its scan; nothing is stated yet.")
        said.first.wait_for()
        assert said.count() == 2
        assert page.get_by_text("No statement fits.").count() == 0
        go(page, where, "#/cve/CVE-1999-0001")
        page.get_by_text("In no image that was scanned").wait_for()


def named(page: "Page", name: str) -> None:
    """Has the API give every image this name."""

    def answer(route: "Route") -> None:
        found = route.fetch()
        route.fulfill(response=found, json=renamed(found.json()))

    def renamed(value: Any) -> Any:
        if isinstance(value, list):
            return [renamed(one) for one in value]
        if isinstance(value, dict):
            return {
                key: [name] if key in ("names", "namespaces") and one else renamed(one)
                for key, one in value.items()
            }
        return value

    page.route(re.compile(r"/fleet/images\?|/images/sha256|/vulnerabilities/"), answer)


def test_a_name_cannot_look_like_another(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        named(page, f"registry/{TURNED}")
        for address in ("fleet", f"#/image/{image(3).config_digest}", "vulnerability"):
            go(page, where, address)
            shown = f"{page.locator('body').text_content()} {page.title()}"
            assert "\N{REPLACEMENT CHARACTER}gnp.exe\N{REPLACEMENT CHARACTER}" in shown
            assert not re.search("[\u202a-\u202e\u2066-\u2069]", page.content())


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize(
    "name", ["registry.example/" + "a-long-team/" * 8 + "x" * 150 + ":v1", "سجل/خدمة-الدفع:نسخة"]
)
def test_long_names_and_names_from_right_to_left_stay_in_their_place(
    where: Site, chromium: "Browser", width: int, name: str
) -> None:
    with opened(chromium, width=width) as page:
        named(page, name)
        for address in ("fleet", "statements", f"#/image/{image(3).config_digest}/documents",
                        "#/cve/CVE-2099-0001"):  # fmt: skip
            go(page, where, address)
            assert page.get_by_text(name[-12:]).count() > 0
            assert page.evaluate("document.documentElement.scrollWidth") <= width, address
            over = page.evaluate(
                "[...document.querySelectorAll('.name, h1:not(.hidden), .long td')].filter("
                "(one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth)"
                ".map((one) => one.outerHTML.slice(0, 200))"
            )
            assert over == [], address
