"""``python -m benchmarks.api.paced URL --rate 500 --seconds 10``: latency at a given rate.

wrk asks as fast as it is answered, so it tells nothing of a rate below the greatest. Here requests
have their times, and a latency counts from the time at which the request was to be sent: what waits
for a connection, or for a server that pauses, is not left out. Prints p50, p99 and the most, in ms,
the rate that was reached, and the answers that were none.
"""

import argparse
import asyncio
import re
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import uvloop

CONNECTIONS = 32
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


async def measure(url: str, rate: float, seconds: float) -> tuple[list[float], float, int]:
    """Latencies in seconds, sorted; requests a second; how many were not answered with 200."""
    address = urlsplit(url)
    lines = (f"GET {address.path} HTTP/1.1", f"Host: {address.netloc}", "Accept-Encoding: identity")
    request = "\r\n".join((*lines, "", "")).encode()
    took: list[float] = []
    bad = 0
    began = time.perf_counter() + 0.2
    times = (began + number / rate for number in range(int(rate * seconds)))

    async def work(times: Iterator[float]) -> None:
        nonlocal bad
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        for due in times:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            took.append(time.perf_counter() - due)
            bad += not head.startswith(b"HTTP/1.1 200")
        writer.close()

    await asyncio.gather(*(work(times) for _ in range(CONNECTIONS)))
    return sorted(took), len(took) / (time.perf_counter() - began), bad


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    took, reached, bad = uvloop.run(measure(options.url, options.rate, options.seconds))
    shown = [1000 * took[int(len(took) * share)] for share in (0.5, 0.99)]
    print(*(f"{one:.2f}" for one in (*shown, 1000 * took[-1], reached)), bad)


if __name__ == "__main__":
    main()
