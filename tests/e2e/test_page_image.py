"""An image and a vulnerability on the web page: evidence, coverage, history, documents."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from benchmarks.api.fill import image
from tests.support.page import IMAGES, Site, opened
from tests.support.page_steps import HOSTILE_IMAGE, go, open_evidence
from tests.unit.factories import CONFIG

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.real


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
        assert re.search(r"17 events were lost on node-[2-8]\b", card)
        assert "node-1" in card
        assert re.search(r"Containers\s+4", card)
        whole = page.locator("td[data-label='Whole containers']").all_inner_texts()
        assert whole == ["2 of 2", "0 of 2"]
        curve = page.locator("svg[role=img]").last
        assert "files were seen in use between" in (curve.get_attribute("aria-label") or "")
        assert page.get_by_text(re.compile("Saturated|Still growing")).count() == 1
        gap = next(n for n in range(1, IMAGES, 3) if not _learnt(where, image(n).config_digest))
        go(page, where, f"#/image/{image(gap).config_digest}/coverage")
        page.locator(".part").get_by_text("there is a gap in the observation").wait_for()


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


def _loses(where: Site, digest: str) -> bool:
    answer = httpx.get(f"{where.url}/images/{digest}/coverage")
    return answer.status_code == 200 and answer.json()["totals"]["lost_events"] > 0


def _learnt(where: Site, digest: str) -> bool:
    return bool(httpx.get(f"{where.url}/images/{digest}").json()["learning"]["complete"])
