"""``python -m benchmarks.scanner.bundle_limits``: an image with tens of thousands of own scripts.

Each has 60 lines of its own and words that others have as well, every hundredth is a minified
bundle of an npm package. Prints the most memory that the search for bundled packages held, as a
share of the limit for words, the time, and how many of the packages are found in their bundles.
"""

import argparse
import io
import random
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from services.scanner import scripts
from services.scanner.layers import unpack
from tests.unit.images import artifact
from vexstream.bundled_words import MAX_WORD_BYTES
from vexstream.own import distributed_files
from vexstream.ownership import assign

PACKAGES = 200
_HOME = "usr/local/lib/node_modules"
_PLENTY = 1 << 40
_HEAD = (
    "| scripts | peak, MiB | of it before, MiB | more than before / limit | s | found | open |\n"
)
_LINE = "|--:|--:|--:|--:|--:|--:|--:|"


def _words(chooser: random.Random, count: int) -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return ["".join(chooser.choices(letters, k=chooser.randint(6, 12))) for _ in range(count)]


def layer(path: Path, count: int) -> None:
    """The image's only one."""
    chooser = random.Random(count)  # noqa: S311 - nothing is secret
    common = _words(chooser, 5000)
    with tarfile.open(path, "w") as tar:
        sources = []
        for number in range(PACKAGES):
            own = _words(chooser, 40)
            sources.append(";\n".join(f"throw Error('no {one} {two} is here')"
                                      for one, two in pairwise(own)))  # fmt: skip
            _add(tar, f"{_HOME}/p{number}/package.json", "{}")
            _add(tar, f"{_HOME}/p{number}/index.js", sources[-1])
        for number in range(count):
            own = common[:500] + _words(chooser, 60)
            text = "\n".join(
                f"    const {one} = await {chooser.choice(own)}.{chooser.choice(own)}({n});"
                for n, one in enumerate(own[500:])
            )
            if number % 100 == 0:
                text = (text + sources[number // 100 % PACKAGES]).replace("\n", ";")
            _add(tar, f"srv/{number % 500}/{number}.js", text)


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode() + b"\n" * 300
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def search(count: int) -> None:
    """Makes the image, searches it, and prints a row."""
    with tempfile.TemporaryDirectory(prefix="vx-limits-") as work:
        blob = Path(work, "layer.tar")
        layer(blob, count)
        image = unpack([blob], _PLENTY).image()
        found = [artifact("npm", f"p{n}", at=(f"/{_HOME}/p{n}/package.json",))
                 for n in range(PACKAGES)]  # fmt: skip
        packages = assign(found, image)
        distributed = distributed_files(found, packages, image)
        before, begun = _peak(), time.process_time()
        packages = scripts.with_bundles(packages, image, distributed, [blob], _PLENTY)
    seconds, peak = time.process_time() - begun, _peak()
    held = sum(any(path.startswith(b"/srv/") for path in one.files) for one in packages)
    unsure = sum(one.unobservable is not None for one in packages)
    share = (peak - before) / (MAX_WORD_BYTES >> 20)
    cells = (count, f"{peak:.0f}", f"{before:.0f}", f"{share:.2f}", f"{seconds:.0f}", held, unsure)
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def main() -> None:
    """Each image in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("counts", type=int, nargs="*", default=[2000, 20_000, 60_000])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        search(arguments.counts[0])
        return
    print(_HEAD + _LINE, flush=True)
    for count in arguments.counts:
        command = [sys.executable, "-m", "benchmarks.scanner.bundle_limits", "--one", str(count)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
