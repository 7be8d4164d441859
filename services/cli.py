"""The one command: ``vexstream demo``, ``up``, and each service by name."""

import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from services import cli_ci, cli_dead_letter, cli_documents, cli_output, cli_read, cli_vendor

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain: its brackets are ours, and boxes are of no use to grep
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"vexstream {version('vexstream')}")
        raise typer.Exit


@app.callback()
def vexstream(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version")
    ] = False,
) -> None:
    """Turns what containers really do into VEX."""


cli_ci.register(app)
cli_dead_letter.register(app)
cli_documents.register(app)
cli_read.register(app)
cli_vendor.register(app)

# Each service is imported when it is asked for: an installation may hold only one of them.


@app.command()
def collect(
    record: Annotated[
        Path | None, typer.Option(help="Also write what is observed to this file")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Send this recording to Kafka instead of observing")
    ] = None,
) -> None:
    """Run the collector: eBPF on this node, accesses to Kafka.

    Settings are variables: docs/settings.md.
    """
    from services.collector.__main__ import main as run

    run(record_to=record, replay_from=replay)


@app.command()
def scan() -> None:
    """Run the scanner: Syft and Grype per image, scans to Kafka.

    Settings are variables: docs/settings.md.
    """
    from services.scanner.__main__ import main as run

    run()


@app.command()
def correlate() -> None:
    """Run the correlator: accesses and scans in, VEX out.

    Settings are variables: docs/settings.md.
    """
    from services.correlator.__main__ import main as run

    run()


@app.command()
def serve() -> None:
    """Run the API: GET /vex/<digest>.

    Settings are variables: docs/settings.md.
    """
    from services.api.__main__ import main as run

    run(["serve"])


@app.command()
def rebuild() -> None:
    """Empty the API's database, to be filled again from Kafka.

    Whoever serves fills it, also while it runs.
    """
    from services.api.__main__ import main as run

    run(["rebuild"])


@app.command()
def mirror() -> None:
    """Publish every document as Kubescape's custom resource.

    For as long as it runs. Settings are variables: docs/settings.md.
    """
    from services.kubescape.__main__ import main as run

    run()


@app.command()
def demo(
    learning_seconds: Annotated[
        float, typer.Option(min=1, help="Length of the learning period")
    ] = 20.0,
    live_database: Annotated[
        bool, typer.Option(help="Let Grype download its own vulnerability database")
    ] = False,
    keep: Annotated[
        bool | None, typer.Option("--keep/--exit", help="Go on serving at the end [on a terminal]")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Show this recorded run instead of a live one")
    ] = None,
    record: Annotated[Path | None, typer.Option(help="Record the run to this file")] = None,
) -> None:
    """Run the whole pipeline on a real container.

    Shows its statements, and how they change when it uses a further library.

    Exit status: 0 it was shown, 1 it failed, 130 Ctrl-C.
    """
    from rich.console import Console

    from services.local import demo as demonstration
    from services.local.process import LocalError
    from services.local.tools import obstacles

    console = Console()
    options = demonstration.Options(
        learning_period_seconds=learning_seconds,
        live_database=live_database,
        keep_running=sys.stdin.isatty() if keep is None else keep,
        record_to=record,
    )
    _terminate_as_interrupt()
    try:
        if replay is None and (why := obstacles()):
            replay = _offer_replay(why, demonstration.RECORDING)
        if replay is None:
            demonstration.run_live(options, console)
        else:
            demonstration.run_replay(replay, options, console)
    except LocalError as error:
        _say_failed("The demo failed:", error)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left running.")
        raise typer.Exit(130) from None


@app.command()
def up(
    learning_seconds: Annotated[
        float, typer.Option(min=1, help="Length of the learning period")
    ] = 24 * 3600.0,
    cri_endpoint: Annotated[
        str, typer.Option(help="CRI socket of the containerd to watch")
    ] = "unix:///run/containerd/containerd.sock",
) -> None:
    """Run the pipeline for the containers of this machine.

    Until Ctrl-C. The broker is in memory: what was learnt ends with it.

    Exit status: 0 Ctrl-C, 1 it cannot run here, or failed.
    """
    from rich.console import Console

    from services.local.process import LocalError
    from services.local.tools import obstacles
    from services.local.up import run

    console = Console()
    if why := obstacles():
        typer.echo(
            "\n".join(["Cannot watch containers here:", *(f"- {one}" for one in why)]), err=True
        )
        raise typer.Exit(1)
    _terminate_as_interrupt()
    try:
        run(cri_endpoint, learning_seconds, console)
    except LocalError as error:
        _say_failed("Failed:", error)
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        console.print("Stopped.")


def _say_failed(what: str, error: Exception) -> None:
    from rich.console import Console
    from rich.text import Text

    said = Text.assemble((what, "bold red"), f" {error}")  # its brackets are no markup
    Console(stderr=True, highlight=False, soft_wrap=True).print(said)


def _offer_replay(why: list[str], recording: Path) -> Path:
    """Says why there is no live run; asks on a terminal, goes on with the replay elsewhere."""
    typer.echo("The live demo cannot run here:")
    for reason in why:
        typer.echo(f"  - {reason}")
    if sys.stdin.isatty():
        typer.confirm("Show the replay of a recorded run instead?", default=True, abort=True)
    else:
        typer.echo("Showing the replay of a recorded run instead.")
    return recording


def _terminate_as_interrupt() -> None:
    """SIGTERM cleans up as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)


def main() -> None:
    """Entry point of the console script."""
    cli_output.let_readers_go()
    try:
        app()
    except SystemExit as end:
        raise cli_output.ended(end) from None


if __name__ == "__main__":
    main()
