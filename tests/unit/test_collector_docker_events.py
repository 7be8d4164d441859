"""The event stream of Docker and Podman: their spellings, and how it breaks."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from services.collector.docker import DockerRuntime
from services.collector.docker_events import Event
from services.collector.errors import RuntimeUnavailableError
from services.collector.runtime import Ended, Told
from vexstream.identity import NO_IMAGE, Image, Workload

ID = "1" * 64
SHOP = {"com.docker.compose.project": "shop", "com.docker.compose.service": "cart"}


def _line(action: str, at: int, kind: str = "container", **attributes: str) -> bytes:
    actor = {"ID": ID, "Attributes": {"image": "app:1", "name": "shop-cart-1", **attributes}}
    event = {"Type": kind, "Action": action, "Actor": actor, "time": at, "timeNano": at * 10**9}
    return json.dumps(event).encode() + b"\n"


async def _all(tmp_path: Path, answer: bytes) -> tuple[list[Told], bytes]:
    asked = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked = await reader.readline()
        writer.write(answer)
        writer.close()

    path = tmp_path / "docker.sock"
    told: list[Told] = []
    runtime = DockerRuntime("docker", f"unix://{path}", tmp_path)
    async with await asyncio.start_unix_server(serve, path):
        with pytest.raises(RuntimeUnavailableError):
            await _take(runtime.told(7_000_005), told)
    return told, asked


async def _take(stream: AsyncIterator[Told], told: list[Told]) -> None:
    async for one in stream:
        told.append(one)


async def test_what_is_made_begins_and_ends_is_told(tmp_path: Path) -> None:
    lines = [
        _line("create", 8, **SHOP),
        _line("start", 9),
        _line("exec_start: true", 9),
        _line("connect", 9, kind="network"),
        _line("die", 10, exitCode="3"),
        _line("die", 12),
    ]
    head = b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n"
    told, asked = await _all(tmp_path, head + b"".join(lines))
    assert b"/events?since=7.000005&" in asked
    first, *others = told
    assert first.made is not None
    assert first.made.image == Image(NO_IMAGE, (), ("app:1",))
    assert first.made.workload == Workload("shop", "cart", "cart")
    assert first.made.created_at_us == first.at_us == 8_000_000
    assert others == [
        Told(ID, 9_000_000),
        Told(ID, 10_000_000, ended=Ended(10_000_000, 3)),
    ]


@pytest.mark.parametrize(
    ("kind", "before", "died", "code"),
    [
        ("docker", {}, {"exitCode": "3"}, 3),
        ("docker", {"exitCode": "0"}, {"exitCode": "0"}, None),
        ("docker", None, {"exitCode": "0"}, None),
        ("docker", {}, {"exitCode": "3", "containerExitCode": "0"}, 3),
        ("podman", {}, {"containerExitCode": "3"}, 3),
        ("podman", {"exitCode": "0"}, {"exitCode": "0", "containerExitCode": "3"}, 3),
    ],
    ids=["docker", "label", "begun unseen", "podmans", "podman", "dockers"],
)
async def test_no_label_says_how_a_container_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, before: dict[str, str] | None,
    died: dict[str, str], code: int | None,
) -> None:  # fmt: skip
    """Docker lets one take the place of the exit code (moby, ``copyAttributes``): a job that fails
    again and again would have come to its end three times."""
    happened = [] if before is None else [Event(ID, "start", 1, before)]
    happened.append(Event(ID, "die" if kind == "docker" else "died", 2, died))
    monkeypatch.setattr("services.collector.docker.events", lambda *_: _stream(*happened))
    runtime = DockerRuntime(kind, f"unix://{tmp_path}/s", tmp_path)
    ended = [told.ended async for told in runtime.told(0) if told.ended is not None]
    assert ended == ([] if code is None else [Ended(2, code)])


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.0 404 Not Found\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nno json\n",
     b'HTTP/1.0 200 OK\r\n\r\n{"Type": "container", "Actor": {"ID": "1"}}\n',
     b"HTTP/1.0 200 OK\r\n\r\n[]\n"],
)  # fmt: skip
async def test_an_answer_of_another_kind_is_no_stream(tmp_path: Path, answer: bytes) -> None:
    assert (await _all(tmp_path, answer))[0] == []


@pytest.mark.parametrize(
    "line",
    [b"no json\n", b"[]\n", b'{"Type": "container", "Actor": {"ID": "1"}}\n',
     _line("create", 8, label="x" * (5 << 20))],
    ids=["no json", "no object", "no time", "too long"],
)  # fmt: skip
async def test_what_cannot_be_read_is_passed_over(tmp_path: Path, line: bytes) -> None:
    """It would come first again after each break."""
    told, _ = await _all(tmp_path, b"HTTP/1.0 200 OK\r\n\r\n" + line + _line("start", 9))
    assert told == [Told(ID, 9_000_000)]


@pytest.mark.parametrize(
    ("tagged", "named"), [("1970-01-01T00:00:07Z", True), ("1970-01-01T00:00:09Z", False)]
)
async def test_a_name_that_moved_since_names_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tagged: str, named: bool
) -> None:
    told, _ = await _all(tmp_path, b"HTTP/1.0 200 OK\r\n\r\n" + _line("create", 8))
    config = "sha256:" + "4" * 64
    image: dict[str, Any] = {"Id": config, "RepoTags": ["app:1"]}
    answers = {"/images/app:1/json": image | {"Metadata": {"LastTagTime": tagged}}, "/info": {}}
    runtime = DockerRuntime("docker", "unix:///nowhere", tmp_path)
    monkeypatch.setattr(runtime, "_ask", answers.get)
    assert told[0].made is not None
    found = await runtime.named(told[0].made)
    assert (found.config_digest == config) == named


@pytest.mark.parametrize(("other", "named"), [("else:1", True), ("app:1", False)])
async def test_podman_tells_which_other_image_had_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: str, named: bool
) -> None:
    told, _ = await _all(tmp_path, b"HTTP/1.0 200 OK\r\n\r\n" + _line("create", 8))
    config = "sha256:" + "4" * 64
    images = [
        {"Id": config, "RepoTags": ["app:1"], "History": ["app:1"]},
        {"Id": "sha256:" + "5" * 64, "RepoTags": ["else:1"], "History": [other]},
    ]
    answers: dict[str, Any] = {
        "/images/app:1/json": images[0], "/images/json?all=1": images, "/info": {}
    }  # fmt: skip
    runtime = DockerRuntime("podman", "unix:///nowhere", tmp_path)
    monkeypatch.setattr(runtime, "_ask", answers.get)
    assert told[0].made is not None
    found = await runtime.named(told[0].made)
    assert (found.config_digest == config) == named


@pytest.mark.parametrize(
    ("kind", "path", "owned"),
    [
        ("docker", f"/docker/{ID}", True),
        ("docker", f"/system.slice/docker-{ID}.scope", True),
        ("docker", f"/docker/{ID}/init.scope", True),
        ("docker", "/docker/buildkit/abc", False),
        ("docker", f"/kubepods/pod1/{ID}", False),
        ("podman", f"/libpod_parent/libpod-{ID}", True),
        ("podman", f"/machine.slice/libpod-{ID}.scope/container", True),
        ("podman", f"/libpod_parent/libpod-conmon-{ID}", False),
        ("podman", f"/system.slice/web.service/libpod-payload-{ID}", True),
    ],
)
def test_its_cgroups_are_known_by_their_paths(kind: str, path: str, owned: bool) -> None:
    assert DockerRuntime(kind, "unix:///nowhere", Path("/")).owns(path) == owned


async def test_no_label_hides_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """cri-dockerd's sandboxes have this one, and any image may bring it."""
    pod = {"io.kubernetes.docker.type": "podsandbox"}
    runtime = DockerRuntime("docker", f"unix://{tmp_path}/s", tmp_path)
    happened = Event(ID, "create", 1, pod)
    monkeypatch.setattr("services.collector.docker.events", lambda *_: _stream(happened))
    assert [one.id async for one in runtime.told(0)] == [ID]
    listed = [{"Id": ID, "State": "running", "Labels": pod}]
    monkeypatch.setattr(runtime, "_ask", lambda _: listed)
    assert [one.id for one in await runtime.list()] == [ID]


async def _stream(*events: Event) -> AsyncIterator[Event]:
    for event in events:
        yield event
