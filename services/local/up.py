"""``vexstream up``: the pipeline for the containers that run on this machine."""

import time
from pathlib import Path

from rich.console import Console

from services.local.process import MissingPrerequisiteError
from services.local.stack import Stack
from services.local.tools import find_tool, workspace


def run(cri_endpoint: str, learning_period_seconds: float, console: Console) -> None:
    """Serves until interrupted. Broker and database live as long as this process does.

    Raises:
        LocalError: a part of it does not start, or there is no containerd to watch.
    """
    socket = Path(cri_endpoint.removeprefix("unix://"))
    if not socket.is_socket():
        raise MissingPrerequisiteError(
            f"there is no containerd at {socket}: start it, or say by --cri-endpoint where it is"
        )
    console.print("Starting; this takes some seconds.")
    with workspace() as directory:
        variables = {
            "VEXSTREAM_CRI_ENDPOINT": cri_endpoint,
            "VEXSTREAM_CONTAINERD_ADDRESS": str(socket),
            "VEXSTREAM_LEARNING_PERIOD_SECONDS": str(learning_period_seconds),
            "VEXSTREAM_SYFT": str(find_tool("syft")),
            "VEXSTREAM_GRYPE": str(find_tool("grype")),
        }
        with Stack(directory, variables) as stack:
            stack.start_stores()
            stack.start_api()
            for service in ("correlator", "scanner", "collector"):
                stack.start_service(service)
            for line in (
                f"Watching {cri_endpoint}.",
                f"Page: {stack.api_url}/",
                f"Documents: {stack.api_url}/images",
                f"Logs: {directory}",
            ):
                console.print(line, soft_wrap=True)
            while True:
                stack.check()
                time.sleep(0.5)
