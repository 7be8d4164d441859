"""``vexstream dead-letter list|replay|dismiss``: what no service could use, and what next."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.common.dead_letters import Filter  # needs the extra kafka
    from services.common.settings import CommonSettings

Service = Annotated[str | None, typer.Option(help="Only what this service buried")]
Topic = Annotated[str | None, typer.Option(help="Only what came from this topic, full name")]
Record = Annotated[str, typer.Argument(help="topic[partition]@offset, as `list` shows it")]
By = Annotated[str, typer.Option(help="Who says so; stands in the statements")]
Because = Annotated[str, typer.Option(help="Why it does not matter; stands there too")]
Older = Annotated[bool, typer.Option(help="All unreadable ones before it on its partition too")]
Reason = Annotated[str | None, typer.Option(help="Only this reason, such as bad_record")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(no_args_is_help=True, help="Records that no service could use.")
    group.command("list")(list_letters)
    group.command("replay")(replay)
    group.command("dismiss")(dismiss)
    app.add_typer(group, name="dead-letter")


def list_letters(service: Service = None, topic: Topic = None, reason: Reason = None) -> None:
    """Show dead letters, one a line.

    When, by whom, from where, and why. Settings are variables, as of the services.
    """
    from services.common import dead_letters

    settings = _settings()
    try:
        lines = dead_letters.show(settings, _filter(service, topic, reason))
    except dead_letters.DeadLetterError as error:
        raise _failure(error) from error
    for line in lines:
        typer.echo(line)
    typer.echo(f"{len(lines)} dead letters", err=True)


def replay(service: Service = None, topic: Topic = None, reason: Reason = None) -> None:
    """Send records again to the topics they came from.

    What is known already changes nothing.
    """
    from services.common import dead_letters

    settings = _settings()
    try:
        sent, left = dead_letters.replay(settings, _filter(service, topic, reason))
    except dead_letters.DeadLetterError as error:
        raise _failure(error) from error
    for line in left:
        typer.echo(f"not sent: {line}", err=True)
    typer.echo(f"{sent} records sent again, {len(left)} not")


def dismiss(record: Record, by: By, because: Because, older: Older = False) -> None:
    """Say that unreadable file accesses do not matter.

    They can never be read, and keep an image open no longer.
    """
    from services.common import dead_letters

    settings = _settings()
    try:
        known = dead_letters.dismiss(settings, record, by, because, older=older)
    except dead_letters.DeadLetterError as error:
        raise _failure(error) from error
    typer.echo(f"{record} is dismissed" + ("" if known else ", if there was such a dead letter"))


def _settings() -> "CommonSettings":
    from services.common.settings import CommonSettings, SettingsError, load

    try:
        return load(CommonSettings)
    except SettingsError as error:
        typer.echo(f"wrong settings\n{error}", err=True)
        raise typer.Exit(2) from error


def _filter(service: str | None, topic: str | None, reason: str | None) -> "Filter":
    from services.common.dead_letters import Filter

    return Filter(service, topic, reason)


def _failure(error: Exception) -> typer.Exit:
    typer.echo(str(error), err=True)
    return typer.Exit(1)
