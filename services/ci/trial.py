"""Runs the tests: as the container's command, by exec within it, or on the host beside it."""

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import grpc
from cri_api.v1 import api_pb2 as cri
from cri_api.v1 import api_pb2_grpc

from services.ci.errors import CiError
from services.ci.watch import Watch
from services.local.containerd import Container, Containerd, ContainerdError
from vexstream.trial import Outcome

_services: Any = api_pb2_grpc
"""Generated code without types."""

_POLL_SECONDS = 0.2
_CALL_SECONDS = 30
_GRACE_SECONDS = 3


class Where(StrEnum):
    """Where the test command runs."""

    CONTAINER = "container"
    """As the container's command, behind the image's entry point, as ``docker run`` has it."""
    EXEC = "exec"
    """Within the container, which runs the image's own command."""
    HOST = "host"
    """On this machine, against the container, which runs the image's own command."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run and for how long."""

    command: tuple[str, ...]
    where: Where
    env: Mapping[str, str]
    port: int | None
    """TCP port on which the container must listen before the tests begin."""
    timeout_seconds: float
    ready_seconds: float = 60.0


async def run_tests(
    containerd: Containerd, image: str, job: str, plan: Plan, watch: Watch
) -> Outcome:
    """Starts the container, runs the tests, waits for all evidence, and stops the container.

    Raises:
        CiError: the container does not run, or does not get ready.
    """
    await asyncio.to_thread(require_free, plan.port)
    args = plan.command if plan.where is Where.CONTAINER else ()
    try:
        container = await asyncio.to_thread(
            containerd.run, image, job, namespace="ci", args=args, env=plan.env
        )
    except ContainerdError as error:
        raise CiError(f"{error}: see `--tests-in` for other ways to run the tests") from error
    try:
        if plan.where is Where.CONTAINER:
            exit_code = await _ended(containerd, container, plan.timeout_seconds, watch)
            await watch.heard(container.id)
            begun_at_us, output = None, _log(container)
        else:
            if plan.port is not None:
                await _listening(containerd, container, plan)
            begun_at_us = await watch.settled(container.id)
            run = _exec if plan.where is Where.EXEC else _on_host
            exit_code, output = await run(containerd, container, plan)
            _require_running(containerd, container)
            await watch.settled(container.id)
    finally:
        await asyncio.to_thread(containerd.stop, container, _GRACE_SECONDS)
    return Outcome(container.id, exit_code, output, begun_at_us)


async def _ended(
    containerd: Containerd, container: Container, seconds: float, watch: Watch
) -> int | None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        watch.check()
        state, code = await asyncio.to_thread(_status, containerd, container)
        if state == cri.CONTAINER_EXITED:
            return code
        await asyncio.sleep(_POLL_SECONDS)
    return None


async def _exec(
    containerd: Containerd, container: Container, plan: Plan
) -> tuple[int | None, bytes]:
    try:
        done = await asyncio.to_thread(
            containerd.exec, container, plan.command, max(1, int(plan.timeout_seconds))
        )
    except ContainerdError as error:
        if "timed out" in str(error) or "DeadlineExceeded" in str(error):
            return None, str(error).encode()
        raise CiError(str(error)) from error
    return done.exit_code, done.stdout + done.stderr


async def _on_host(
    containerd: Containerd, container: Container, plan: Plan
) -> tuple[int | None, bytes]:
    # Our own settings may hold keys, which are none of the tests' business.
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("VEXSTREAM_")}
    env = {
        **inherited, **plan.env,
        "VEXSTREAM_CI_HOST": "127.0.0.1",
        "VEXSTREAM_CI_CONTAINER": container.id,
        "VEXSTREAM_CI_PID": str(await asyncio.to_thread(containerd.pid, container)),
    }  # fmt: skip
    if plan.port is not None:
        env["VEXSTREAM_CI_PORT"] = str(plan.port)
    try:
        process = await asyncio.create_subprocess_exec(
            *plan.command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env=env,
        )  # fmt: skip
    except OSError as error:
        raise CiError(f"the test command {plan.command[0]} cannot be run: {error}") from error
    try:
        async with asyncio.timeout(plan.timeout_seconds):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return None, b""
    return process.returncode, output


async def _listening(containerd: Containerd, container: Container, plan: Plan) -> None:
    deadline = time.monotonic() + plan.ready_seconds
    while not await asyncio.to_thread(_accepts, plan.port):
        _require_running(containerd, container)
        if time.monotonic() > deadline:
            raise CiError(
                f"the container did not listen on port {plan.port} within {plan.ready_seconds:g} s;"
                f" it said:\n{_log(container).decode(errors='replace')[-2000:]}"
            )
        await asyncio.sleep(_POLL_SECONDS)


def require_free(port: int | None) -> None:
    """Raises CiError: something listens on the port that is to be the container's."""
    if port is not None and _accepts(port):
        raise CiError(
            f"something on this machine listens on port {port} already, and would be tested "
            "in place of the container: end it, or let the container listen on another port"
        )


def _accepts(port: int | None) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port or 0), timeout=1):
            return True
    except OSError:
        return False


def _require_running(containerd: Containerd, container: Container) -> None:
    state, code = _status(containerd, container)
    if state != cri.CONTAINER_RUNNING:
        raise CiError(
            f"the container ended (exit code {code}) while its tests ran; it said:\n"
            + _log(container).decode(errors="replace")[-2000:]
        )


def _status(containerd: Containerd, container: Container) -> tuple[int, int]:
    request = cri.ContainerStatusRequest(container_id=container.id)
    with grpc.insecure_channel(containerd.endpoint) as channel:
        try:
            answer = _services.RuntimeServiceStub(channel).ContainerStatus(
                request, timeout=_CALL_SECONDS
            )
        except grpc.RpcError as error:
            raise CiError(f"containerd no longer knows the container: {error.details()}") from error
    return answer.status.state, answer.status.exit_code


def _log(container: Container) -> bytes:
    """What the container printed; CRI puts time, stream and a flag before each line."""
    try:
        lines = container.log.read_bytes().splitlines(keepends=True)
    except OSError:
        return b""
    return b"".join(line.split(b" ", 3)[-1] for line in lines)
