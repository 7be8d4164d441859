"""An application of Yarn's Plug'n'Play without its lock file, made by Yarn, against strace."""

from pathlib import Path

import pytest

from tests.support import ecosystems, mapped

pytestmark = pytest.mark.real

YARN = "@yarnpkg/cli-dist@4.5.3"
TOOL = "usr/local/lib"


def test_a_package_runs_from_the_archive_in_yarns_cache(syft: Path, tmp_path: Path) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    node = ecosystems.need("node", "apt-get install nodejs")
    ecosystems.npm(root, TOOL, {"ms": "2.1.3", "depd": "2.0.0"})
    npm = ecosystems.need("npm", "apt-get install npm")
    home = root / "srv/app"
    ecosystems.write(home, {
        "package.json": '{"name": "shop", "dependencies": {"ms": "2.1.3", "depd": "1.1.2"}}',
        "index.js": "require('depd'); console.log(require('ms')(1000))",
    })  # fmt: skip
    registry = ecosystems.run([npm, "config", "get", "registry"], home).strip()
    ecosystems.run(
        [npm, "exec", "--yes", f"--package={YARN}", "--", "yarn", "install"], home,
        {"YARN_ENABLE_GLOBAL_CACHE": "false", "YARN_NPM_REGISTRY_SERVER": registry,
         "YARN_ENABLE_TELEMETRY": "false", "YARN_ENABLE_IMMUTABLE_INSTALLS": "false",
         "YARN_UNSAFE_HTTP_WHITELIST": "*"},
    )  # fmt: skip
    (home / "yarn.lock").unlink()
    used = mapped.opened(home, work, [node, "-r", str(home / ".pnp.cjs"), str(home / "index.js")])
    [archive] = [b"/srv/app" + path for path in used if b"/ms-npm-2.1.3-" in path]
    found = {one.name: one for one in mapped.packages(root, work, syft) if one.type == "npm"}
    assert archive in found["ms"].files
    assert not [path for path in found["depd"].files if path.endswith(b".zip")]
    assert found["ms"].unobservable is None
