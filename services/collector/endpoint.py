"""How the gRPC interface of a container runtime answers when it cannot: that it has no such method,
or does not answer, or not any more."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from services.collector.errors import NotOfferedError, RuntimeUnavailableError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a runtime is to answer."""

    address: str
    kind: str
    """What it is."""
    setting: str
    """The variable that names it."""

    def away(self, error: grpc.aio.AioRpcError) -> RuntimeUnavailableError:
        """What it means that a call failed."""
        kind = RuntimeUnavailableError
        if error.code() == grpc.StatusCode.UNIMPLEMENTED:
            kind = NotOfferedError
        return kind(
            f"{self.address} does not answer as {self.kind} ({error.code().name}: "
            f"{error.details()}): check {self.setting}"
        )

    @contextlib.contextmanager
    def streamed(self, stream: Any) -> Iterator[None]:
        """Within, a stream of events is read and decoded; behind, it is over.

        Raises:
            NotOfferedError: there is none.
            RuntimeUnavailableError: it broke, or tells what cannot be read.
        """
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise self.away(error) from error
        except DecodeError as error:
            raise RuntimeUnavailableError(
                f"{self.address} tells of events that cannot be read ({error})"
            ) from error
        finally:
            stream.cancel()


def undecoded(sent: bytes) -> tuple[bytes]:
    """Of a stream that has to tell what it cannot read: gRPC would wait for its end without a word,
    and takes nothing for an end."""
    return (sent,)
