"""The container runtimes of a node, as one."""

import asyncio
from dataclasses import replace

import structlog

from services.collector.containerd import ContainerdRuntime
from services.collector.docker import DockerRuntime
from services.collector.errors import CollectorError, RuntimeUnavailableError
from services.collector.pods import PodRuntime
from services.collector.protocols import Runtime
from services.collector.remembering import Remembering
from services.collector.runtime import ContainerInfo, Ended, Listed
from services.collector.settings import CollectorSettings

log = structlog.get_logger()


def configured(settings: CollectorSettings) -> Runtime:
    """The runtimes that the settings name: ``cri=unix://…,docker=unix://…,podman=unix://…``.

    Raises:
        CollectorError: VEXSTREAM_RUNTIMES names something else.
    """
    if not settings.runtimes:
        return Remembering(PodRuntime(settings.cri_endpoint))
    found: list[Runtime] = []
    for one in settings.runtimes.split(","):
        kind, _, endpoint = one.strip().partition("=")
        if kind == "cri" and endpoint:
            found.append(Remembering(PodRuntime(endpoint)))
        elif kind == "containerd" and endpoint:
            found.append(Remembering(ContainerdRuntime(endpoint)))
        elif kind in ("docker", "podman") and endpoint:
            engine = DockerRuntime(kind, endpoint, settings.host_proc / "1/root")
            found.append(Remembering(engine))
        else:
            raise CollectorError(
                f"VEXSTREAM_RUNTIMES: {one!r} is not cri=unix://…, containerd=unix://…, "
                "docker=unix://… or podman=unix://…"
            )
    return found[0] if len(found) == 1 else Runtimes(found)


class Runtimes:
    """Several runtimes side by side.

    One that does not answer is taken to run what it ran: its containers stay under observation.
    """

    def __init__(self, runtimes: list[Runtime]) -> None:
        self._runtimes = runtimes
        self._listed: list[list[Listed]] = [[] for _ in runtimes]
        self._owners: dict[str, Runtime] = {}

    async def version(self) -> str:
        """The names of all."""
        return ",".join([await one.version() for one in self._runtimes])

    async def list(self) -> list[Listed]:
        """The containers of all. Raises RuntimeUnavailableError when none answers."""
        answers = await asyncio.gather(
            *(one.list() for one in self._runtimes), return_exceptions=True
        )
        failures = []
        for n, answer in enumerate(answers):
            if isinstance(answer, RuntimeUnavailableError):
                failures.append(answer)
                self._listed[n] = [replace(one, fresh=False) for one in self._listed[n]]
                log.warning("container runtime cannot be reached", error=str(answer))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                self._listed[n] = answer
        if len(failures) == len(self._runtimes):
            raise failures[0]
        self._owners = {
            container.id: runtime
            for runtime, containers in zip(self._runtimes, self._listed, strict=True)
            for container in containers
        }
        return [container for containers in self._listed for container in containers]

    async def describe(self, container_id: str) -> ContainerInfo | None:
        """As the runtime that lists it says."""
        owner = self._owners.get(container_id)
        return await owner.describe(container_id) if owner else None

    async def ended(self, container_id: str) -> Ended | None:
        """As the runtime that lists it says."""
        owner = self._owners.get(container_id)
        return await owner.ended(container_id) if owner else None

    def owns(self, path: str) -> bool:
        """As one of them says."""
        return any(one.owns(path) for one in self._runtimes)

    async def close(self) -> None:
        """Closes all."""
        for one in self._runtimes:
            await one.close()
