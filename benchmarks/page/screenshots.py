"""Pictures of every page in light, dark and at the width of a phone, of a made-up fleet.

``python -m benchmarks.page.screenshots`` writes docs/img/page-*.png (it needs the extra ``bench``).
The pictures in the docs and the README are made by this command alone.
"""

import argparse
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from benchmarks.api.fill import image as made_up
from benchmarks.page.browser import chromium, missing, settle
from benchmarks.page.served import served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FOLDER = Path("docs/img")


@dataclass(frozen=True, slots=True)
class Look:
    """How a page is looked at."""

    name: str
    scheme: str
    wide: int
    high: int


LOOKS = (
    Look("light", "light", 1280, 860),
    Look("dark", "dark", 1280, 860),
    Look("phone", "light", 360, 780),
)


def take(url: str, folder: Path) -> list[Path]:
    """Takes all pictures of the page that is served there."""
    images = httpx.get(f"{url}/fleet/images", params={"limit": 30}).json()["items"]
    learning = next(one for one in images if not one["learning"]["complete"])
    image = images[1]["config_digest"]
    with_history = made_up(3).config_digest
    urgent = max(
        httpx.get(f"{url}/fleet").json()["urgent"], key=lambda one: sum(one["images"].values())
    )
    addresses = {
        "fleet": "",
        "search": "#/?q=zlib",
        "image": f"#/image/{image}",
        "evidence": f"#/image/{image}",
        "coverage": f"#/image/{learning['config_digest']}/coverage",
        "history": f"#/image/{with_history}/history",
        "documents": f"#/image/{image}/documents",
        "vulnerability": f"#/cve/{urgent['vulnerability']}",
        "vendors": "#/vendors",
    }
    with chromium() as browser:
        return [
            _take(browser, look, f"{url}/{address}", name, folder)
            for look in LOOKS
            for name, address in addresses.items()
        ]


def _take(browser: "Browser", look: Look, address: str, name: str, folder: Path) -> Path:
    context = browser.new_context(
        viewport={"width": look.wide, "height": look.high},
        color_scheme="dark" if look.scheme == "dark" else "light",
    )
    try:
        page = context.new_page()
        page.goto(address)
        _settle(page)
        if name == "evidence":
            page.locator("button.open").first.click()
            page.locator(".evidence h3").first.wait_for()
            page.locator(".evidence").first.scroll_into_view_if_needed()
            page.wait_for_timeout(200)
        if name == "vendors":
            page.locator("tr.vendor", has_text="tidewater").locator("button.open").click()
            page.locator(".evidence h3").first.wait_for()
            page.evaluate("scrollTo(0, 0)")
            page.wait_for_timeout(200)
        to = folder / f"page-{name}-{look.name}.png"
        _save(page.screenshot(), to)
        return to
    finally:
        context.close()


def _save(picture: bytes, to: Path) -> None:
    """With a palette that spans all colours, small dots' too: a third of the size."""
    from PIL import Image

    colours = Image.open(io.BytesIO(picture)).convert("RGB")
    method, dither = Image.Quantize.MAXCOVERAGE, Image.Dither.NONE
    colours.quantize(200, method, kmeans=1, dither=dither).save(to, optimize=True)


def _settle(page: "Page") -> None:
    settle(page)
    page.locator("main table tbody tr, main dl").first.wait_for()
    page.wait_for_timeout(400)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a page that is served already")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    reason = missing()
    if reason:
        raise SystemExit(reason)
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.url:
        made = take(options.url, options.folder)
    else:
        with served(240, 40, 5000) as page:
            made = take(page.url, options.folder)
    print(f"{len(made)} pictures, {sum(one.stat().st_size for one in made) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
