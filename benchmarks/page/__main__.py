"""How fluid the page is with a large fleet, measured in the browser.

``python -m benchmarks.page`` fills 10,000 images of about 40 statements and one of 5,000, which
takes minutes, and measures. ``python -m benchmarks.page.served --images 10000 --large 5000`` in
another terminal and ``--url`` measure again without filling. Times are milliseconds as the page's
own clock saw them, requests to the API included; a long task is one of more than 50 ms. After each
figure stands what it is of its limit (``LIMITS``): below 1 is fluid. Ends with status 1 when one is
not.
"""

import argparse
import contextlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from benchmarks.api.fill import image
from benchmarks.page.browser import chromium, missing
from benchmarks.page.served import served

if TYPE_CHECKING:
    from playwright.sync_api import Page

_OBSERVE = """
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const one of list.getEntries()) window.longTasks.push(one.duration);
}).observe({ type: "longtask", buffered: true });
"""
# Scrolls by a screen a frame until the list has ended or so many rows are there.
_SCROLL = """async (most) => {
  const gaps = [];
  let last = performance.now();
  let still = 0;
  while (document.querySelectorAll("tbody tr").length < most && still < 600) {
    const before = document.body.scrollHeight;
    window.scrollBy(0, 700);
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    gaps.push(now - last);
    last = now;
    still = document.body.scrollHeight === before ? still + 1 : 0;
  }
  return { gaps, rows: document.querySelectorAll("tbody tr").length };
}"""
_RUNS = 5
LIMITS = {
    "median_ms": 1000,
    "frame_p95_ms": 50,
    "longest_task_ms": 200,
    "transferred_bytes": 200_000,
}
"""What a reader takes for at once, for smooth scrolling and for no hitch, and a small page."""


def measure(url: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """All figures of the page that is served there, as they are measured."""
    fleet, large = f"{url}/", f"{url}/#/image/{image(0).config_digest}"
    in_fleet = ("zlib", "shop-1", "CVE-2091-1005", "payments")
    in_large = ("openssl", "CVE-2093", "nothing", "libxml2")
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1280, "height": 900})
        context.add_init_script(_OBSERVE)
        page = context.new_page()
        page.set_default_timeout(60_000)
        yield "fleet: first load", _loads(page, fleet)
        yield "fleet: 1,000 rows scrolled", _scrolls(page, 1000)
        yield "fleet: search", _filters(page, fleet, "#q", in_fleet)
        yield "image of 5,000: first load", _loads(page, large)
        yield "image of 5,000: all rows scrolled", _scrolls(page, 5000)
        yield "image of 5,000: filter", _filters(page, large, "#find", in_large)
        yield "image of 5,000: evidence opened", _opens(page, large)


def _loads(page: "Page", address: str) -> dict[str, Any]:
    times, bytes_ = [], 0
    for _ in range(_RUNS):
        page.goto("about:blank")
        began = time.perf_counter()
        page.goto(address)
        settle_rows(page)
        times.append((time.perf_counter() - began) * 1000)
        sizes = page.evaluate(
            "() => performance.getEntriesByType('resource').map((one) => one.transferSize)"
        )
        bytes_ = max(bytes_, sum(sizes))
    return _times(times) | {"transferred_bytes": bytes_} | _long(page)


def _scrolls(page: "Page", most: int) -> dict[str, Any]:
    _long(page)
    done = page.evaluate(_SCROLL, most)
    gaps = sorted(done["gaps"])
    return {
        "rows": done["rows"],
        "frames": len(gaps),
        "frame_p95_ms": round(gaps[int(len(gaps) * 0.95)], 1),
        "frame_worst_ms": round(gaps[-1], 1),
        **_long(page),
    }


def _filters(page: "Page", address: str, field: str, texts: tuple[str, ...]) -> dict[str, Any]:
    page.goto("about:blank")
    page.goto(address)
    settle_rows(page)
    _long(page)

    def typed(text: str) -> None:
        with page.expect_response(lambda answer: answer.ok and _asks(answer.url, text)):
            page.fill(field, text)
        settle_rows(page)

    return _times([_timed(typed, text) for text in texts]) | _long(page)


def _asks(url: str, text: str) -> bool:
    return ("/fleet/images?" in url or "/statements?" in url) and f"q={text}" in url


def _opens(page: "Page", address: str) -> dict[str, Any]:
    page.goto("about:blank")
    page.goto(address)
    settle_rows(page)
    _long(page)

    def opened(at: int) -> None:
        page.locator("button.open").nth(at).click()
        page.locator(".evidence h3").nth(at).wait_for()

    return _times([_timed(opened, at) for at in range(_RUNS)]) | _long(page)


def settle_rows(page: "Page") -> None:
    """Waits until the list is there."""
    page.locator("main .foot:not([aria-busy]) .said:not(:empty)").wait_for()


def _timed(work: Callable[[Any], None], given: Any) -> float:
    began = time.perf_counter()
    work(given)
    return (time.perf_counter() - began) * 1000


def _times(times: list[float]) -> dict[str, Any]:
    return {"median_ms": round(statistics.median(times)), "worst_ms": round(max(times))}


def _long(page: "Page") -> dict[str, Any]:
    """The long tasks since this was last asked."""
    found: list[float] = page.evaluate("() => window.longTasks.splice(0)")
    return {"long_tasks": len(found), "longest_task_ms": round(max(found, default=0))}


def ratios(figures: dict[str, Any]) -> dict[str, float]:
    """Each figure that has a limit, as a part of it."""
    return {
        name: round(figures[name] / limit, 2) for name, limit in LIMITS.items() if name in figures
    }


@contextlib.contextmanager
def _somewhere(url: str | None) -> Iterator[str]:
    if url is not None:
        yield url
        return
    with served(10_000, 40, 5000) as made:
        yield made.url


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="of a page that is served already")
    options = parser.parse_args()
    reason = missing()
    if reason:
        raise SystemExit(reason)
    worst = 0.0
    began = time.monotonic()
    with _somewhere(options.url) as url:
        print(f"the fleet is there after {time.monotonic() - began:.0f} s", flush=True)
        for name, figures in measure(url):
            parts = ratios(figures)
            worst = max(worst, *parts.values())
            print(f"{name}: {json.dumps(figures)}, of the limits {json.dumps(parts)}", flush=True)
    print(f"the worst is {worst:.2f} of its limit, {time.monotonic() - began:.0f} s in all")
    sys.exit(worst > 1)


if __name__ == "__main__":
    main()
