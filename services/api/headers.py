"""What every answer says that does not say otherwise."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_DEFAULTS = (
    (b"cache-control", b"no-store"),  # what is listed may be another thing in a second
    (b"x-content-type-options", b"nosniff"),  # names in it come from strangers
)


class DefaultHeaders:
    """ASGI middleware: adds what is missing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes the request on."""

        async def complete(message: Message) -> None:
            if message["type"] == "http.response.start":
                said = message["headers"]
                names = {name for name, _ in said}
                said.extend(header for header in _DEFAULTS if header[0] not in names)
            await send(message)

        await self._app(scope, receive, complete)
