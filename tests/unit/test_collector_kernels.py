"""Which containers are surely processes of the node's kernel, as each runtime tells it."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cri_api.v1 import api_pb2

from services.collector.containerd_api import _TYPES, runs_natively
from services.collector.docker import DockerRuntime
from services.collector.runtime import CriRuntime

RUNC = "io.containerd.runc.v2"
OPTIONS = "containerd.runc.v1.Options"


@pytest.mark.parametrize(
    ("shim", "kind", "options", "native"),
    [
        (RUNC, "", b"", True),
        (RUNC, OPTIONS, b"", True),
        (RUNC, f"types.googleapis.com/{OPTIONS}", b"", True),
        (RUNC, OPTIONS, {"binary_name": "/usr/sbin/runc"}, True),
        (RUNC, OPTIONS, {"binary_name": "crun"}, True),
        (RUNC, OPTIONS, {"binary_name": "/usr/bin/runsc"}, False),
        (RUNC, OPTIONS, b"\xff", False),
        (RUNC, "runtimeoptions.v1.Options", b"", False),
        ("io.containerd.runsc.v1", "", b"", False),
        ("io.containerd.kata.v2", OPTIONS, {"binary_name": "runc"}, False),
        ("io.containerd.urunc.v2", "", b"", False),
        ("", "", b"", False),
    ],
)
def test_containerd_says_it_by_the_shim_and_its_options(
    shim: str, kind: str, options: Any, native: bool
) -> None:
    value = options
    if isinstance(options, dict):
        value = _TYPES["RuncOptions"](**options).SerializeToString()
    told = _TYPES["Shim"](name=shim, options=_TYPES["Any"](type_url=kind, value=value))
    assert runs_natively(SimpleNamespace(runtime=told)) == native


@pytest.mark.parametrize(
    ("info", "handler", "native"),
    [
        ({"runtimeType": RUNC}, "", True),
        ({"runtimeType": RUNC, "runtimeOptions": {"binary_name": "/opt/runc"}}, "", True),
        ({"runtimeType": RUNC, "runtimeOptions": {"binary_name": "runsc"}}, "runc", False),
        ({"runtimeType": RUNC, "runtimeOptions": {"binary_name": 1}}, "runc", False),
        ({"runtimeType": RUNC, "runtimeOptions": "odd"}, "runc", False),
        ({"runtimeType": "io.containerd.runsc.v1"}, "runc", False),
        ({"runtimeType": None}, "runc", False),
        ({}, "crun", True),
        ({}, "", False),
        ({}, "kata", False),
    ],
)
async def test_cri_says_it_by_the_shim_or_the_handler(
    monkeypatch: pytest.MonkeyPatch, info: dict[str, Any], handler: str, native: bool
) -> None:
    runtime = CriRuntime("unix:///nowhere")

    async def call(_: Any, request: Any) -> Any:
        if isinstance(request, api_pb2.ContainerStatusRequest):
            status = api_pb2.ContainerStatus(id="c")
            verbose = {"info": json.dumps({"sandboxID": "s", **info})}
            return api_pb2.ContainerStatusResponse(status=status, info=verbose)
        if isinstance(request, api_pb2.PodSandboxStatusRequest):
            pod = api_pb2.PodSandboxStatus(id="s", runtime_handler=handler)
            return api_pb2.PodSandboxStatusResponse(status=pod)
        return None

    monkeypatch.setattr(runtime, "_call", call)
    found = await runtime.describe("c")
    assert found is not None
    assert found.native == native


@pytest.mark.parametrize(
    ("kind", "runtime", "native"),
    [
        ("docker", "runc", True),
        ("docker", RUNC, True),
        ("docker", "runsc", False),
        ("docker", "io.containerd.kata.v2", False),
        ("docker", "", False),
        ("podman", "crun", True),
        ("podman", "/usr/bin/runc", True),
        ("podman", "krun", False),
        ("podman", None, False),
    ],
)
async def test_engines_say_it_by_their_runtimes_name(
    monkeypatch: pytest.MonkeyPatch, kind: str, runtime: str | None, native: bool
) -> None:
    answers: dict[str, Any] = {
        "/containers/c/json": {
            "Id": "c", "Image": "i", "Name": "/c", "Created": "2026-11-25T19:03:23Z",
            "State": {"Pid": 0},
            "HostConfig": {"Runtime": "oci" if kind == "podman" else runtime},
        },
        "/v4.0.0/libpod/containers/c/json": runtime and {"OCIRuntime": runtime},
        "/info": {},
    }  # fmt: skip
    engine = DockerRuntime(kind, "unix:///nowhere", Path("/nowhere"))
    monkeypatch.setattr(engine, "_ask", answers.get)
    info = await engine.describe("c")
    assert info is not None
    assert info.native == native
