"""What Deno, Bun and Node run of their arguments, against what is told of them."""

import os
import re
from pathlib import Path

import pytest

from services.collector.scripts import told_to_run
from tests.support import ecosystems

pytestmark = pytest.mark.real

SCRIPT = "console.log('ran', 'tool')"
HOOK = "console.log('ran', 'hook')"
COMMANDS = (
    "deno tool", "deno run tool", "deno --quiet run tool x", "deno run -A ./tool",
    "deno run --preload=./hook tool", "deno test --no-check tool", "deno fmt --check tool",
    "deno check --quiet hook", "deno eval code", "deno info tool",
    "bun tool", "bun run tool", "bun --smol run ./tool", "bun --preload=./hook tool",
    "bun build tool --outdir=out", "bun exec ./tool", "bun test ./tool",
    "node tool", "node --require=./hook tool", "node -e code tool",
)  # fmt: skip


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where they are."""
    home = tmp_path_factory.mktemp("interpreters")
    npm = ecosystems.need("npm", "apt-get install npm")
    ecosystems.write(home, {"package.json": "{}"})
    ecosystems.run([npm, "install", "--no-audit", "--no-fund", "deno@2.9.6",
                    "bun@1.4.5"], home)  # fmt: skip
    return home / "node_modules/.bin"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_runs_is_told(programs: Path, tmp_path: Path, command: str) -> None:
    ecosystems.write(tmp_path, {"tool": SCRIPT, "hook": HOOK})
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    line = f"timeout 60 {command} < /dev/null 2>&1 || true"
    output = ecosystems.run(["bash", "-c", line], tmp_path, path)
    ran = set(re.findall(r"ran '?(\w+)", output))
    told = {Path(name.decode()).name for name in told_to_run(command.encode().split())}
    assert told & {"tool", "hook"} == ran, output
