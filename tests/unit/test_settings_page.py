"""docs/settings.md tells of every variable of every service, as the code has them."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_code_says() -> None:
    made = subprocess.run(
        [sys.executable, "scripts/settings-page"], cwd=ROOT, capture_output=True, check=True,
        env={k: v for k, v in os.environ.items() if not k.startswith("VEXSTREAM_")},
    ).stdout.decode()  # fmt: skip
    assert made == (ROOT / "docs/settings.md").read_text(), (
        "scripts/settings-page > docs/settings.md"
    )


def test_every_variable_that_the_docs_name_is_read_somewhere() -> None:
    files = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("*.md")]
    named = {
        name for file in files for name in re.findall(r"VEXSTREAM_[A-Z0-9_]+\b", file.read_text())
    }
    settings = set(re.findall(r"`(VEXSTREAM_\w+)`", (ROOT / "docs/settings.md").read_text()))
    folders = ("services", "scripts", "tests", "deploy", "benchmarks")
    sources = [file for one in folders for file in (ROOT / one).rglob("*") if file.is_file()]
    sources += [ROOT / "docker-compose.yml", ROOT / "action.yml", ROOT / ".env.example"]
    unknown = {one for one in named - settings if not one.endswith("_")}
    for file in sources:
        if file.suffix in {".py", ".yml", ".yaml", ".sh", "", ".example", ".md"}:
            text = file.read_text(errors="replace")
            unknown -= {one for one in unknown if one in text or _field(one) in text}
    assert unknown == set()


def _field(variable: str) -> str:
    """How a class of settings has it."""
    return f"    {variable.removeprefix('VEXSTREAM_').lower()}: "
