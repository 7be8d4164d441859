"""What an interpreter is told to run, and what is told of it when the process is gone."""

import struct
from pathlib import Path
from typing import Any

import pytest

from services.collector import scripts
from services.collector.events import ArgumentsEvent, FileEvent, parse
from services.collector.scripts import ScriptResolver, told_to_run
from tests.unit.tracking import ROOT
from vexstream.evidence import Use


@pytest.mark.parametrize(
    ("command", "files"),
    [
        ("node /data/tool", ["/data/tool"]),
        ("node /data/tool.js /data/blob", []),
        ("node --require /data/hook /data/app x", ["/data/hook", "/data/app"]),
        ("node -e code /data/blob", []),
        ("node --eval=code /data/blob", []),
        ("node -p 1 /data/blob", []),
        ("python3.11 -u /data/tool", ["/data/tool"]),
        ("/usr/bin/python3 -m tool /data/blob", []),
        ("python -Ic code", []),
        ("python -E /data/tool", ["/data/tool"]),
        ("perl -w -I /opt /data/tool", ["/opt", "/data/tool"]),
        ("perl -ne code /data/blob", []),
        ("sh /data/run x", ["/data/run"]),
        ("-bash -e /data/run", ["/data/run"]),
        ("sh -ec /data/run", []),
        ("bash +x -o pipefail /data/run", ["pipefail", "/data/run"]),
        ("ruby tool", ["tool"]),
        ("deno /data/tool", ["/data/tool"]),
        ("deno run /data/tool x", ["/data/tool"]),
        ("deno run -A --config /data/deno /data/tool", ["/data/deno", "/data/tool"]),
        ("deno --quiet run /data/tool x", ["/data/tool"]),
        ("deno run run", ["run"]),
        ("deno run --preload=/data/hook /data/tool", ["/data/hook", "/data/tool"]),
        ("deno serve --port=80 /data/tool", ["/data/tool"]),
        ("deno install /data/blob", []),
        ("deno task start", []),
        ("deno eval code", []),
        ("bun run /data/tool", ["/data/tool"]),
        ("bun --cwd /data run tool", ["/data", "tool"]),
        ("bun --cwd build run tool", ["build", "tool"]),
        ("bun /data/install", ["/data/install"]),
        ("/usr/local/bin/bun install left-pad", []),
        ("bun x cowsay", []),
        ("node inspect /data/tool", ["/data/tool"]),
        ("node install", ["install"]),
        ("node --require=/data/hook /data/app", ["/data/hook", "/data/app"]),
        ("node --import=./hook.mjs --title=/data/x /data/app", ["/data/app"]),
        ("java -cp /data/classes Main", []),
        ("sh", []),
        ("", []),
    ],
)
def test_the_file_is_told_from_options_and_what_it_is_given(command: str, files: list[str]) -> None:
    assert [name.decode() for name in told_to_run(command.encode().split())] == files


def test_a_sample_has_the_arguments_without_what_was_cut_off() -> None:
    text = b"node\0/data/to\0/data/o"
    sample = _sample(text)
    assert parse(sample) == ArgumentsEvent(10, (b"node", b"/data/to"), ROOT, 42)


def _sample(text: bytes) -> bytes:
    return struct.pack("=QQQIIIIHHI", 10, 0, 7, 0, 50, 42, 2, 4, 4, len(text)) + text


def _event(*words: bytes) -> ArgumentsEvent:
    return ArgumentsEvent(10, words, ROOT, 7)


def _process(folder: Path) -> Path:
    """In whose root file system a volume is, as its working directory."""
    process = folder / "7"
    (process / "root").mkdir(parents=True)
    (process / "mountinfo").write_text(
        "1 0 0:50 / / rw - overlay o rw\n2 1 0:60 / /data rw - ext4 e rw\n"
        "3 1 0:61 / /run rw - tmpfs t rw\n"
    )
    (process / "cwd").symlink_to("/data")
    return folder


@pytest.mark.parametrize(
    ("name", "told"),
    [(b"/data/tool", b"/data/tool"), (b"./tool", b"/data/tool"), (b"/data/../opt/tool", None),
     (b"/run/tool", None), (b"/opt/tool", None)],
)  # fmt: skip
def test_on_a_volume_it_is_told_once(tmp_path: Path, name: bytes, told: bytes | None) -> None:
    resolver = ScriptResolver(_process(tmp_path))
    used = resolver.resolve(_event(b"node", name))
    assert [(one.path, one.use) for one in used] == (
        [(told, Use.EXECUTED | Use.REWRITTEN)] if told else []
    )
    if name.startswith(b"/"):
        assert resolver.resolve(_event(b"node", name, b"more")) == []


def test_of_a_process_that_is_gone_the_name_is_taken_as_it_is(tmp_path: Path) -> None:
    resolver = ScriptResolver(tmp_path)
    found: list[FileEvent] = []
    for name in (b"/data/tool", b"tool"):
        found += resolver.resolve(_event(b"node", name))
    assert [(one.path, one.use) for one in found] == [(b"/data/tool", Use.EXECUTED)]


def test_a_storm_of_them_is_not_looked_at_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[Any] = []

    def look(*of: Any) -> _Gone:
        looked.append(of)
        return _Gone()

    monkeypatch.setattr(scripts, "ContainerView", look)
    resolver = ScriptResolver(tmp_path)
    for n in range(1000):
        resolver.resolve(_event(b"node", b"/data/%d" % n))
        resolver.resolve(_event(b"sh", b"-c", b"%d" % n))
    assert len(looked) == scripts._PER_DRAIN


class _Gone:
    def volume_file(self, *_: Any) -> list[Any]:
        return []

    def close(self) -> None:
        pass
