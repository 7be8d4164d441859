"""Which image a container of Docker runs, out of recorded answers.

They are those of an engine 29 (moby/moby v2.0.0-beta.24, built from its Go module) to the requests
of the collector, for an image of two platforms of which the container runs arm64, less the fields
that nobody reads; tests/integration/test_docker_store.py asks the engine itself.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from services.collector import containerd_api
from services.collector.containerd_api import ContainerdApi
from services.collector.docker import DockerRuntime
from services.collector.errors import RuntimeUnavailableError
from vexstream.identity import NO_IMAGE, Digest, Image

_INDEX = "sha256:b5834f5801caff3a57294fe14b31f6809a1245dcbe3057e585f0cef31918fe04"
_AMD64 = "sha256:a4084134b8d9c39087a3cbbd4e7a32a7b500fb77f6916904d5473d7e2422b70b"
_ARM64 = "sha256:a70b96e533158ac1a08bd61c2fbe388d13b6fe94358854c6ad762e6c52aa4a1d"
_AMD64_CONFIG = "sha256:4b116515296dc4a43216da401dd27138b5f2201d6bed6e00ffb8d110de425115"
_ARM64_CONFIG = "sha256:6d946440622903f57096d328fac66b42259ac5a7e8e419cc5b75ee5c2cfe5abf"
_NAME = "localhost/app:1"
_CONTAINER: dict[str, Any] = {
    "Created": "2026-11-25T19:03:23.196005538Z",
    "Image": _INDEX,
    "ImageManifestDescriptor": {
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": _ARM64, "size": 398,
        "platform": {"architecture": "arm64", "os": "linux"},
    },
    "Name": "/kind_golick",
    "State": {"Status": "created", "Running": False, "Pid": 0},
    "Config": {"Image": _NAME},
}  # fmt: skip
_IMAGE = {"Id": _INDEX, "RepoTags": [_NAME], "RepoDigests": [f"localhost/app@{_INDEX}"]}
_INFO: dict[str, Any] = {
    "Driver": "overlayfs",
    "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
    "Containerd": {
        "Address": "/run/containerd/containerd.sock",
        "Namespaces": {"Containers": "moby", "Plugins": "plugins.moby"},
    },
}
_CONTENT: dict[str, dict[str, Any]] = {
    _INDEX: {"schemaVersion": 2, "manifests": [
        {"digest": _AMD64, "size": 398, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": _ARM64, "size": 398, "platform": {"os": "linux", "architecture": "arm64"}},
    ]},
    _AMD64: {"schemaVersion": 2, "config": {"digest": _AMD64_CONFIG, "size": 385}},
    _ARM64: {"schemaVersion": 2, "config": {"digest": _ARM64_CONFIG, "size": 385}},
}  # fmt: skip


async def _described(
    monkeypatch: pytest.MonkeyPatch,
    container: dict[str, Any] = _CONTAINER,
    info: dict[str, Any] = _INFO,
    content: dict[str, dict[str, Any]] = _CONTENT,
) -> Image | None:
    answers = {"/containers/c/json": container, f"/images/{container['Image']}/json": _IMAGE,
               "/info": info}  # fmt: skip
    api = ContainerdApi("unix:///nowhere")
    runtime = DockerRuntime("docker", "unix:///nowhere", Path("/nowhere"))

    async def document(namespace: str, digest: str) -> dict[str, Any] | None:
        return content.get(digest) if namespace == "moby" else None

    monkeypatch.setattr(runtime, "_ask", answers.get)
    monkeypatch.setattr(runtime, "_containerd", lambda _: api)
    monkeypatch.setattr(api, "document", document)
    found = await runtime.describe("c")
    return None if found is None else found.image


async def test_a_cgroup_where_the_engine_was_told_to_put_containers_is_ones_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What nobody told of there is a loss: of cri-dockerd, with its driver cgroupfs."""
    runtime = DockerRuntime("docker", "unix:///nowhere", Path("/nowhere"))
    parent = {"HostConfig": {"CgroupParent": "/kubepods/burstable/podu1"}}
    monkeypatch.setattr(runtime, "_ask", {"/containers/c/json": _CONTAINER | parent}.get)
    other = f"/kubepods/besteffort/podu2/{'1' * 64}"
    assert not runtime.owns(other)
    await runtime.describe("c")
    assert runtime.owns(other)
    assert runtime.owns(f"{other}/inner")
    assert not runtime.owns("/kubepods/besteffort/podu2")
    assert not runtime.owns(f"/machine/{'1' * 64}")


async def test_in_containerds_store_the_manifest_says_the_config_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = Image(Digest(_ARM64_CONFIG), (Digest(_ARM64), Digest(_INDEX)), (_NAME,))
    assert await _described(monkeypatch) == expected


async def test_an_engine_with_a_store_of_its_own_names_the_config_digest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    info = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}
    container = _CONTAINER | {"Image": _ARM64_CONFIG, "ImageManifestDescriptor": None}
    found = await _described(monkeypatch, container, info)
    assert found is not None
    assert found.config_digest == _ARM64_CONFIG


async def test_an_older_engine_that_names_the_index_alone_is_believed_for_this_machine_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    older = {k: v for k, v in _CONTAINER.items() if k != "ImageManifestDescriptor"}
    monkeypatch.setattr(containerd_api, "_ARCHITECTURE", "amd64")
    found = await _described(monkeypatch, older)
    assert found is not None
    assert found.config_digest == _AMD64_CONFIG
    monkeypatch.setattr(containerd_api, "_ARCHITECTURE", "riscv64")
    assert await _described(monkeypatch, older) == Image(NO_IMAGE, (Digest(_INDEX),), (_NAME,))
    pulled = {digest: _CONTENT[digest] for digest in (_INDEX, _ARM64)}
    found = await _described(monkeypatch, older, content=pulled)
    assert found is not None
    assert found.config_digest == _ARM64_CONFIG


async def test_what_lies_beside_an_image_is_not_taken_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An attestation of BuildKit is a manifest of the platform unknown/unknown."""
    older = {k: v for k, v in _CONTAINER.items() if k != "ImageManifestDescriptor"}
    unknown = {"os": "unknown", "architecture": "unknown"}
    arm64 = {"os": "linux", "architecture": "arm64"}
    entries = [{"digest": _AMD64, "platform": unknown}, {"digest": _ARM64, "platform": arm64}]
    found = await _described(
        monkeypatch, older, content=_CONTENT | {_INDEX: {"manifests": entries}}
    )
    assert found is not None
    assert found.config_digest == _ARM64_CONFIG


async def test_an_engine_is_asked_for_its_store_again_after_it_was_away(tmp_path: Path) -> None:
    runtime = DockerRuntime("docker", f"unix://{tmp_path}/docker.sock", tmp_path)
    runtime._engine = _INFO
    assert await runtime._info(surely_containerds=True) == _INFO
    with pytest.raises(RuntimeUnavailableError):
        await runtime.list()
    with pytest.raises(RuntimeUnavailableError):
        await runtime._info(surely_containerds=True)


async def test_content_that_is_gone_leaves_the_digests_that_the_engine_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = Image(NO_IMAGE, (Digest(_ARM64), Digest(_INDEX)), (_NAME,))
    assert await _described(monkeypatch, content={}) == expected


def test_without_containerds_socket_it_says_what_to_do() -> None:
    runtime = DockerRuntime("docker", "unix:///nowhere", Path("/nowhere"))
    with pytest.raises(RuntimeUnavailableError, match="mount it at that path"):
        runtime._containerd("/no/such.sock")


_OLD, _NEW = "sha256:" + "1" * 64, "sha256:" + "2" * 64
_MADE = "2026-11-25T19:03:23.196005538Z"


@pytest.mark.parametrize(
    ("kind", "tagged", "source", "noted", "expected"),
    [
        ("docker", "2026-11-25T19:00:00Z", "app:1", None, [_NEW]),
        ("docker", "2026-11-25T20:00:00Z", "app:1", None, [_NEW, _OLD]),
        ("docker", "2026-11-25T20:00:00Z", "app:1", _OLD, [_OLD]),
        ("docker", "2026-11-25T20:00:00Z", _NEW, None, [_NEW]),
        ("podman", "0001-01-01T00:00:00Z", "app:1", None, [_NEW, _OLD]),
    ],
)
async def test_an_image_that_is_mounted_by_a_name_may_be_another_one_than_bears_it_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str, tagged: str, source: str,
    noted: str | None, expected: list[str],
) -> None:  # fmt: skip
    listed: list[dict[str, Any]] = [
        {"Id": _NEW, "RepoTags": ["app:1"]},
        {"Id": _OLD, "RepoTags": [] if kind == "docker" else ["else:1"]},
        {"Id": "sha256:" + "3" * 64, "RepoTags": ["other:1"], "History": ["other:1"]},
    ]
    if kind == "podman":
        listed[1]["History"] = ["app:1", "else:1"]
    mount = {"Type": "image", "Name": source, "Destination": "/plugin"}
    container = {**_CONTAINER, "Id": "c", "Image": _NEW, "Mounts": [mount]}
    answers = {
        "/containers/c/json": container,
        "/images/json?all=1": listed,
        "/info": {"DockerRootDir": "/docker"},
        f"/images/{source}/json": {
            "Id": _NEW, "Metadata": {"LastTagTime": tagged}
        },
        f"/images/{_NEW}/json": {"Id": _NEW, "Metadata": {"LastTagTime": tagged}},
        f"/images/{_OLD}/json": {"Id": _OLD},
    }  # fmt: skip
    monkeypatch.setattr(DockerRuntime, "_ask", lambda _, path: answers.get(path))
    if noted:
        notes = tmp_path / "docker/containers/c/config.v2.json"
        notes.parent.mkdir(parents=True)
        notes.write_text(json.dumps({"MountPoints": {"/plugin": {"Spec": {"Source": noted}}}}))
    info = await DockerRuntime(kind, "unix:///none", tmp_path).describe("c")
    assert info is not None
    assert [volume.image.config_digest for volume in info.volumes] == expected
