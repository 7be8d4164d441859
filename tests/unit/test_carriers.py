"""Which uses of files that are not of the image leave open what bundles may hold."""

from dataclasses import replace

import pytest

from tests.unit.factories import WEB, package, scan
from vexstream.evidence import FileUse, Use
from vexstream.usage import FileIndex, Usage

CARRIERS = (b"/app/dist/index.js", b"/usr/local/bin/cli")
ELSEWHERE = Use.REWRITTEN
SCRIPT = Use.EXECUTED | ELSEWHERE
PROGRAM = Use.EXECUTED | Use.MAPPED | ELSEWHERE
READ = Use.OPENED | ELSEWHERE


def usage() -> Usage:
    return Usage(
        FileIndex(
            scan(
                [
                    replace(package("held", b"/usr/lib/held"), perhaps_in=CARRIERS),
                    package("ms", b"/app/node_modules/ms/index.js", b"/app/node_modules/ms/b.js"),
                    package("shop", b"/app/dist/index.js", b"/app/lib/config.js"),
                ],
                [],
            )
        )
    )


def used(*files: tuple[bytes, Use]) -> Usage:
    seen = usage()
    seen.add((path, FileUse(int(use), 1, (WEB,))) for path, use in files)
    return seen


@pytest.mark.parametrize(
    ("path", "use", "open_"),
    [
        (b"/host/bin/node", PROGRAM, False),
        (b"/sbin/docker-init", PROGRAM, False),
        (b"/tekton/bin/entrypoint", PROGRAM, False),
        (b"/data/tool", SCRIPT, True),
        (b"/data/lib", Use.MAPPED | ELSEWHERE, False),
        (b"/data/cli", PROGRAM, True),
        (b"/host/bin/python3.11", SCRIPT, False),
        (b"/data/own.js", READ, True),
        (b"/data/index.js", READ, True),
        (b"/ms/index.js", READ, False),
        (b"/data/node_modules/ms/b.js", READ, False),
        (b"/app/node_modules/ms/b.js", READ, False),
        (b"/data/node_modules/other/b.js", READ, True),
        (b"/app/dist/index.js", READ, True),
        (b"/app/dist/index.js", Use.OPENED, True),
        (b"/app/lib/config.js", READ, False),
    ],
)
def test_a_program_or_a_copy_of_a_package_is_no_bundle(path: bytes, use: Use, open_: bool) -> None:
    assert ("held" in used((path, use)).doubts()) is open_


def test_what_is_executed_is_a_script_until_it_is_known_to_be_a_program() -> None:
    """As an earlier release has written it down, which does not tell whose use is whose."""
    seen = used((b"/data/tool", SCRIPT), (b"/data/agent", SCRIPT))
    assert seen.doubts()["held"].path == b"/data/agent"
    seen.add([(b"/data/agent", FileUse(int(PROGRAM), 1, (WEB,)))])
    assert seen.doubts()["held"].path == b"/data/tool"
    seen.add([(b"/data/tool", FileUse(int(PROGRAM), 1, (WEB,)))])
    assert not seen.doubts()
