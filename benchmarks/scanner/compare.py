"""``python -m benchmarks.scanner.compare``: writes docs/scanner-comparison.md.

Runs a program in an image of each ecosystem under strace, and holds against it which packages
three ways of mapping files call used. Needs root, debootstrap, strace and the ecosystems' own
installers; the first run builds a Debian of half a gigabyte in the cache.
"""

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scanner import rivals
from benchmarks.scanner.images import SUBJECTS, Prepared, Subject, base_layer, prepared
from benchmarks.scanner.witness import Name, Owners, used_files
from services.local import image_base
from services.local.tools import find_tool
from services.scanner import mapping
from services.scanner.layers import unpack

ROOT = Path(__file__).parents[2]
REPORT = ROOT / "docs/scanner-comparison.md"
_PLENTY = 1 << 40
_SHOWN = 6
_METHODS = ("our map", "Syft `contains`", "Kubescape's rule")
_HEAD = """\
# Which packages were used: three ways to tell

Written by `python -m benchmarks.scanner.compare`. In an image of each ecosystem one program ran
under strace; the packages that it used are those to which dpkg's lists, pip's records and the
other installers' folders give a file that it opened or executed (documentation and records of
installation aside). All three ways get the same files and the same SBOM of Syft {syft}.

*Missed* is the dangerous error: a package in use that passes for unused. *False* is a package that
was not used and is called so. The packages are those that Syft finds. *Unknown* are packages of
which our map says that files cannot tell; they never pass for unused.

| image | packages | used | our map: missed | false | unknown | `contains`: missed | false | Kubescape's rule: missed | false |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""  # noqa: E501


@dataclass(frozen=True, slots=True)
class Row:
    """What came out for one image."""

    name: str
    command: Sequence[str]
    packages: set[Name]
    used: set[Name]
    found: Sequence[set[Name]]
    """By each method."""
    unknown: set[Name]

    def missed(self, method: int) -> set[Name]:
        """In use, and not called so. Ours has to be sure that it is unused to call it that."""
        missed = self.used - self.found[method]
        return missed - self.unknown if method == 0 else missed

    def false(self, method: int) -> set[Name]:
        """Called used, and not in use."""
        return self.found[method] - self.used


def compare(subject: Subject, there: Prepared, syft: str, folder: Path) -> Row:
    """Runs and judges one image."""
    opened, executed = used_files(there.root, subject.command, folder / "strace.log")
    owners = Owners(there.root, executed)
    programs = {owners.executed[path] for path in executed}
    document = sbom(syft, there.layout, folder)
    unpacked = unpack(list(there.layers), _PLENTY)
    _, ours = mapping.packages(document, unpacked, list(there.layers), _PLENTY, folder)
    mapped, unknown = rivals.ours(ours, opened, programs)
    whole = json.loads(document)
    packages = {(a["type"], a["name"].lower()) for a in whole["artifacts"]}
    files = opened | programs
    return Row(
        subject.name, subject.command, packages, owners.of(files) & packages,
        (mapped, rivals.contains_edges(whole, files), rivals.kubescape(whole, files)),
        unknown,
    )  # fmt: skip


def sbom(syft: str, layout: Path, folder: Path) -> bytes:
    """What Syft says of an image."""
    path = folder / "syft.json"
    subprocess.run(
        [syft, "scan", f"oci-dir:{layout}", "-o", f"syft-json={path}"], check=True,
        capture_output=True, env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false",
                                  "SYFT_FILE_METADATA_DIGESTS": ""},
    )  # fmt: skip
    return path.read_bytes()


def report(rows: Sequence[Row], syft: str) -> str:
    """The page."""
    lines = [_HEAD.format(syft=syft)]
    for row in rows:
        lines.append(_line(row.name, [row]))
    lines.append(_line("**all**", rows))
    lines.append("\n## What was run, and what was missed or false\n")
    for row in rows:
        lines.append(f"\n**{row.name}**: `{' '.join(row.command)}`\n\n")
        for number, method in enumerate(_METHODS):
            missed, false = row.missed(number), row.false(number)
            lines.append(f"- {method}: missed {_names(missed)}; false {_names(false)}\n")
    return "".join(lines)


def _line(name: str, rows: Sequence[Row]) -> str:
    cells = [sum(len(row.packages) for row in rows), sum(len(row.used) for row in rows)]
    for method in range(len(_METHODS)):
        cells.append(sum(len(row.missed(method)) for row in rows))
        cells.append(sum(len(row.false(method)) for row in rows))
        if method == 0:
            cells.append(sum(len(row.unknown) for row in rows))
    return f"| {name} | {' | '.join(map(str, cells))} |\n"


def _names(names: set[Name]) -> str:
    if not names:
        return "none"
    shown = [f"{package} ({kind})" for kind, package in sorted(names)[:_SHOWN]]
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown) + rest


def main() -> None:
    """Compares and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=REPORT)
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache/images")
    parser.add_argument("--only", help="part of an image's name")
    arguments = parser.parse_args()
    syft = str(find_tool("syft"))
    base = base_layer(arguments.cache)
    rows = []
    with tempfile.TemporaryDirectory(prefix="vx-compare-") as work:
        base_root = Path(work, "base")
        image_base.unpack(base, base_root)
        for number, subject in enumerate(SUBJECTS):
            if arguments.only and arguments.only not in subject.name:
                continue
            folder = Path(work, str(number))
            with prepared(subject, base, base_root, folder) as there:
                rows.append(compare(subject, there, syft, folder))
            shutil.rmtree(folder)
            print(_line(rows[-1].name, rows[-1:]), end="", flush=True)
    version = subprocess.run([syft, "--version"], capture_output=True, text=True, check=True)
    arguments.out.write_text(report(rows, version.stdout.split()[-1]))


if __name__ == "__main__":
    main()
