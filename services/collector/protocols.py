"""What the collector asks of a container runtime."""

from collections.abc import AsyncIterator
from typing import Protocol

from services.collector.runtime import ContainerInfo, Ended, Listed, Told
from vexstream.identity import Image


class Runtime(Protocol):
    """Tells of the containers that it runs. Every call may raise RuntimeUnavailableError."""

    async def version(self) -> str:
        """Name of the runtime, as image-seen.avsc spells it."""

    async def list(self) -> list[Listed]:
        """All containers that it keeps, the exited ones included."""

    async def describe(self, container_id: str) -> ContainerInfo | None:
        """Identity of a container; None when the runtime does not know it."""

    async def ended(self, container_id: str) -> Ended | None:
        """When the container ended, and how; None when the runtime forgot it or it runs."""

    def owns(self, path: str) -> bool:
        """A cgroup by this path is for sure a container's of this runtime."""

    async def close(self) -> None:
        """Closes the connection."""


class Telling(Runtime, Protocol):
    """A runtime that has an event stream."""

    def told(self, since_us: int) -> AsyncIterator[Told]:
        """What happens from then on, or from now on where it does not know. Raises
        RuntimeUnavailableError when it ends."""

    async def named(self, info: ContainerInfo) -> Image:
        """The image of a container of which only its creation is known; nameless where that is not
        sure."""
