"""``python -m benchmarks.scanner.sweep``: how often a package in use passes for unused.

Loads the most used packages of each language in processes of their own under strace, and holds what
the language says to have loaded against what our map says of the files that were opened. Needs
root, debootstrap, strace, npm, Maven and a JDK; a quarter of an hour.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.scanner.compare import sbom
from benchmarks.scanner.images import Prepared, base_layer, prepared
from benchmarks.scanner.images import Subject as ImageSubject
from benchmarks.scanner.sweep import java
from benchmarks.scanner.sweep.judge import Judge, Tally
from benchmarks.scanner.sweep.records import Artifacts, Records
from benchmarks.scanner.sweep.running import run
from benchmarks.scanner.sweep.subjects import SUBJECTS, Subject
from services.local import image_base
from services.local.tools import find_tool
from services.scanner import mapping
from services.scanner.layers import unpack

ROOT = Path(__file__).parents[3]
_PROBES = Path(__file__).parent / "probes"
_PLENTY = 1 << 40
_SECONDS = 60
"""For one process."""
_SHOWN = 40
_HEAD = """\
# Which packages pass for unused: a sweep over popular ones

By `python -m benchmarks.scanner.sweep`. The packages of benchmarks/scanner/sweep/pins are
installed by their installers, and loaded, some modules of each, by processes under strace. Loaded
is what the language says so of (`sys.modules`, `require.cache` and a loader's hook, the JVM's
`class+load`, `$LOADED_FEATURES`, `%INC`, `get_included_files`, `loadedNamespaces`), and what is
mapped executable, of the package to which its installer's record gives it. Our map gets the files
that were opened and executed.

*Missed* is a package that was loaded and passes for unused, in any of the processes. *Gaps* are
packages of which a file was loaded that alone would not show it. *Open* are packages that were
loaded and of which our map says that files cannot tell. *Read* were called used for a file that was
opened and is no code, *noise* for one that no record gives to them.

| image | packages | loaded | processes | pairs | missed | gaps | open | read | noise | its pairs |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""


def sweep(subject: Subject, there: Prepared, folder: Path, case: str) -> Tally:
    """Maps an image, runs its processes and sums up."""
    document = sbom(str(find_tool("syft")), there.layout, folder)
    unpacked = unpack(list(there.layers), _PLENTY)
    files = frozenset(
        path.decode("utf-8", "surrogateescape") for path in unpacked.root.files_under(b"/")
    )
    _, packages = mapping.packages(document, unpacked, list(there.layers), _PLENTY, folder)
    records = Records(there.root)
    judge = Judge(packages, Artifacts(json.loads(document), there.root), records, files)
    tally = Tally(packages=len(packages))
    shutil.copytree(_PROBES, there.root / "tmp/.sweep")
    java.install_loader(there.root, folder)
    for one in subject.cases(there.root, records):
        if case in one.name:
            judge.judge(one, run(there.root, one, folder / "strace.log", _SECONDS), tally)
    return tally


def report(rows: Sequence[tuple[str, Tally]]) -> str:
    """The page."""
    lines = [_HEAD]
    for name, tally in rows:
        lines.append(row(name, tally))
    for name, tally in rows:
        lines.append(f"\n## {name}\n\n")
        lines += _listed("missed", (f"{p} ({c})" for p, (c, _) in sorted(tally.missed.items())))
        lines += _listed("gaps", (f"{p} ({file})" for p, file in sorted(tally.gaps.items())))
        lines += _listed("noise", (f"{p} ({why})" for p, why in sorted(tally.noise.items())))
        lines += _listed("did not end", tally.unfinished)
    return "".join(lines)


def row(name: str, tally: Tally) -> str:
    """A line of the table."""
    figures = (
        tally.packages,
        len(tally.loaded),
        tally.cases,
        tally.checked,
        len(tally.missed),
        len(tally.gaps),
        len(tally.open),
        len(tally.read),
        len(tally.noise),
        tally.noisy,
    )
    return f"| {name} | {' | '.join(map(str, figures))} |\n"


def _listed(what: str, names: Iterable[str]) -> Iterable[str]:
    every = list(names)
    rest = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    yield f"- {what}: {', '.join(every[:_SHOWN]) or 'none'}{rest}\n"


def main() -> None:
    """Sweeps and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("sweep.md"))
    parser.add_argument("--cache", type=Path, default=ROOT / ".cache/images")
    parser.add_argument("--only", default="", help="part of an image's name")
    parser.add_argument("--case", default="", help="part of a process's name")
    arguments = parser.parse_args()
    base = base_layer(arguments.cache)
    rows: list[tuple[str, Tally]] = []
    with tempfile.TemporaryDirectory(prefix="vx-sweep-") as work:
        base_root = Path(work, "base")
        image_base.unpack(base, base_root)
        for subject in SUBJECTS:
            if arguments.only not in subject.name:
                continue
            folder = Path(work, "image")
            image = ImageSubject(subject.name, subject.fill, ())
            with prepared(image, base, base_root, folder) as there:
                rows.append((subject.name, sweep(subject, there, folder, arguments.case)))
            shutil.rmtree(folder)
            print(row(*rows[-1]), end="", flush=True)
            arguments.out.write_text(report(rows))


if __name__ == "__main__":
    main()
