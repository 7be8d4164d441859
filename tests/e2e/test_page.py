"""The web page in a real Chromium, on the real stack: what it shows, and what it lets people do."""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from benchmarks.api.fill import HOSTILE, image, record
from benchmarks.page import browser as real
from benchmarks.page.browser import settle
from services.common.settings import CommonSettings
from services.local.postgres import Postgres
from tests.support.page import DECIDER, IMAGES, LARGE, READER, Site, opened, site
from tests.unit.factories import CONFIG

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.real

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
    "unknown": f"#/image/sha256:{'0' * 64}",
}


@pytest.fixture(scope="module")
def where(kafka_broker: Any, postgres_server: Postgres) -> Iterator[Site]:
    if (reason := real.missing()) is not None:
        pytest.skip(reason)
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    settings = CommonSettings(
        kafka_bootstrap_servers=kafka_broker.bootstrap, topic_prefix=prefix, partitions=3
    )
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = postgres_server.create_database(name)
    with (
        tempfile.TemporaryDirectory(prefix="vx-") as folder,
        site(settings, url, Path(folder)) as made,
    ):
        yield made
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def chromium(where: Site) -> Iterator["Browser"]:
    with real.chromium() as started:
        yield started


def go(page: "Page", where: Site, name: str) -> None:
    page.goto("about:blank")  # else only the fragment changes, and the former page is still there
    page.goto(f"{where.url}/{PAGES.get(name, name)}")
    settle(page)


def violations(page: "Page") -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"][:3]]


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
        assert page.locator(".images tbody tr").count() == 50
        page.mouse.wheel(0, 100_000)
        page.locator(f".images tbody tr:nth-child({IMAGES + 1})").wait_for()


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


def test_evidence_of_what_is_used_and_of_what_is_not(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, f"#/image/{CONFIG}")
        used = open_evidence(page, "CVE-2099-0001")
        used.get_by_text("1 file of 1 used").wait_for()
        row = used.locator(".files tbody tr").inner_text()
        assert "/usr/bin/used" in row
        assert "opened" in row
        assert "default/web/app" in row
        assert "1970" in row, "when it was first seen"
        assert "Last seen" in used.locator(".files thead").inner_text()
        idle = open_evidence(page, "CVE-2099-0002")
        idle.get_by_text("No file of it was seen in use").wait_for()
        observed = idle.locator(".observed").inner_text()
        assert "default/web/app: seen whole for 10 s" in observed
        assert "0 events lost" in observed


def test_coverage_says_what_is_missing(where: Site, chromium: "Browser") -> None:
    lossy = next(n for n in range(0, IMAGES, 3) if _loses(where, image(n).config_digest))
    with opened(chromium) as page:
        go(page, where, f"#/image/{image(lossy).config_digest}/coverage")
        card = page.locator(".part").inner_text()
        assert "events lost" in card
        assert "17 events were lost on node-2" in card
        assert "node-1" in card
        curve = page.locator("svg[role=img]").last
        assert "files were seen in use between" in (curve.get_attribute("aria-label") or "")
        assert page.get_by_text(re.compile("Saturated|Still growing")).count() == 1


def test_history_and_documents(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "history")
        page.get_by_role("heading", name="From version 1 to 2").wait_for()
        assert re.search(r"[1-9]\d* changed, 0 new, 0 gone", page.locator(".diff").inner_text())
        assert page.locator(".diff tbody tr").count() > 0
        go(page, where, f"#/image/{HOSTILE_IMAGE}/documents")
        assert "onerror" not in page.locator(".commands").inner_text()


FORMATS: dict[str, tuple[str, Callable[[Any], object]]] = {
    "OpenVEX 0.2.0": ("openvex", lambda said: said["@context"] == "https://openvex.dev/ns/v0.2.0"),
    "CSAF 2.0": ("csaf", lambda said: said["document"]["category"] == "csaf_vex"),
    "CycloneDX VEX": ("cyclonedx", lambda said: said["bomFormat"] == "CycloneDX"),
    "CycloneDX for Dependency-Track": ("cyclonedx-dt", lambda said: said["components"]),
}


def test_each_format_is_downloaded_as_the_api_serves_it(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, f"#/image/{CONFIG}/documents")
        assert page.locator(".downloads button").all_inner_texts() == list(FORMATS)
        for label, (name, holds) in FORMATS.items():
            with page.expect_download() as downloading:
                page.get_by_role("button", name=label, exact=True).click()
            saved = Path(downloading.value.path()).read_bytes()
            assert downloading.value.suggested_filename == f"{CONFIG[7:19]}.{name}.json"
            assert holds(json.loads(saved))
            assert saved == httpx.get(f"{where.url}/vex/{CONFIG}", params={"format": name}).content


def test_what_is_copied_is_what_is_shown_and_the_commands_work(
    where: Site, chromium: "Browser", tmp_path: Path
) -> None:
    """Those of curl and of vexstream are run; Grype's and Trivy's are in test_consumers.py."""
    copied: dict[str, str] = {}
    with opened(chromium, permissions=["clipboard-read", "clipboard-write"]) as page:
        go(page, where, f"#/image/{CONFIG}/documents")
        for button in page.locator("button.copy").all():
            what = (button.get_attribute("aria-label") or "").removeprefix("Copy ")
            button.click()
            page.locator("#toast").get_by_text(f"Copied: {what}.").wait_for()
            copied[what] = page.evaluate("navigator.clipboard.readText()")
        shown = page.locator(".commands code").all_inner_texts()
    assert copied.pop("the digest") == CONFIG
    assert list(copied.values()) == shown
    fetch, grype, trivy, verify = shown
    assert grype.startswith("grype ")
    assert trivy.startswith("trivy image ")
    (tmp_path / "vexstream.pub").write_bytes(httpx.get(f"{where.url}/signing-key.pem").content)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for command in (fetch, verify):
        done = subprocess.run(
            ["sh", "-c", command], cwd=tmp_path, env=os.environ | {"PATH": path},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
    document = (tmp_path / "image.openvex.json").read_bytes()
    assert document == httpx.get(f"{where.url}/vex/{CONFIG}").content


def test_a_statement_is_accepted_by_a_click(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "fleet")
        sign_in(page, DECIDER)
        go(page, where, f"#/image/{CONFIG}")
        box = open_evidence(page, "CVE-2099-0001")
        row = page.locator("tr.statement", has_text="CVE-2099-0001")
        before = row.locator(".badge, .status").first.inner_text()
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
        assert row.locator(".badge, .status").first.inner_text() == before
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


def test_who_may_not_decide_is_told_so(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "fleet")
        sign_in(page, READER)
        go(page, where, f"#/image/{CONFIG}")
        box = open_evidence(page, "CVE-2099-0001")
        box.get_by_text("The token bob has no scope decide.").wait_for()
        assert box.locator("form").count() == 0


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


def test_the_vulnerability_shows_where_it_is_used(where: Site, chromium: "Browser") -> None:
    with opened(chromium) as page:
        go(page, where, "#/cve/CVE-2099-0001")
        page.get_by_text("Used in 1").wait_for()
        page.locator("tbody tr", has_text="Web").wait_for()
        assert "42 %" in page.locator(".imagehead").inner_text()
        page.locator("button.open").first.click()
        page.get_by_text("1 file of 1 used").wait_for()
        go(page, where, "vulnerability")
        page.get_by_text("Not seen in use").wait_for()


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


def _loses(where: Site, digest: str) -> bool:
    answer = httpx.get(f"{where.url}/images/{digest}/coverage")
    return answer.status_code == 200 and answer.json()["totals"]["lost_events"] > 0
