"""An application of Next.js for ``benchmarks.scanner.bundles``: what ``next build`` writes for the
server, the edge and browsers, each script a bundle, with the word of the webpack in it."""

import json
import os
import shutil
import subprocess
from pathlib import Path

NAME = "Next.js"
PACKAGES = (
    "next@14.2.5", "react@18.3.1", "react-dom@18.3.1", "axios@1.7.2", "clsx@2.1.1",
    "date-fns@3.6.0", "dayjs@1.11.11", "express@4.19.2", "graphql@16.9.0", "jose@5.6.3",
    "js-yaml@4.1.0", "jsonwebtoken@9.0.2", "lodash@4.17.21", "lodash-es@4.17.21", "marked@13.0.2",
    "nanoid@5.0.7", "semver@7.6.2", "swr@2.2.5", "uuid@10.0.0", "validator@13.12.0",
    "yargs@17.7.2", "zod@3.23.8",
)  # fmt: skip
_BUNDLERS = Path(__file__).parent / "bundlers"
_MODULES = "node_modules/"
_PARTS = ("client", "edge", "nodejs")


def build(home: Path, out: Path) -> None:
    """Builds the application where the packages are; ``out`` takes what Next.js wrote, and
    ``held.json``."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(home / ".next", ignore_errors=True)
    out.mkdir()
    shutil.copytree(_BUNDLERS / "next", home, dirs_exist_ok=True)
    subprocess.run(
        ["npx", "next", "build"], cwd=home, check=True, stdout=subprocess.DEVNULL,
        env={**os.environ, "NEXT_TELEMETRY_DISABLED": "1", "BUNDLERS_OUT": str(out),
             "BUNDLERS_CHUNKS": str(_BUNDLERS / "chunks.js")},
    )  # fmt: skip
    held: dict[str, list[str]] = {}
    for part in _PARTS:
        told: dict[str, list[str]] = json.loads((out / f"{part}.json").read_text())
        for path, modules in told.items():
            name = str(Path(path).relative_to(home / ".next"))
            held[name] = [one[one.index(_MODULES) :] for one in modules if _MODULES in one]
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / name)
    (out / "held.json").write_text(json.dumps(held))
