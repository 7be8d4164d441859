"""``vexstream dead-letter list|replay``: what no service could use, and its second chance."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.common.dead_letters import Filter  # needs the extra kafka

Service = Annotated[str | None, typer.Option(help="Only what this service buried")]
Topic = Annotated[str | None, typer.Option(help="Only what came from this topic, full name")]
Reason = Annotated[str | None, typer.Option(help="Only this reason, such as bad_record")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(no_args_is_help=True, help="Records that no service could use.")
    group.command("list")(list_letters)
    group.command("replay")(replay)
    app.add_typer(group, name="dead-letter")


def list_letters(service: Service = None, topic: Topic = None, reason: Reason = None) -> None:
    """Show dead letters, one a line: when, by whom, from where, and why."""
    from services.common import dead_letters
    from services.common.settings import CommonSettings, load

    try:
        lines = dead_letters.show(load(CommonSettings), _filter(service, topic, reason))
    except dead_letters.DeadLetterError as error:
        raise _failure(error) from error
    for line in lines:
        typer.echo(line)
    typer.echo(f"{len(lines)} dead letters", err=True)


def replay(service: Service = None, topic: Topic = None, reason: Reason = None) -> None:
    """Send records again to the topics they came from; what is known already changes nothing."""
    from services.common import dead_letters
    from services.common.settings import CommonSettings, load

    try:
        sent, left = dead_letters.replay(load(CommonSettings), _filter(service, topic, reason))
    except dead_letters.DeadLetterError as error:
        raise _failure(error) from error
    for line in left:
        typer.echo(f"not sent: {line}", err=True)
    typer.echo(f"{sent} records sent again, {len(left)} not")


def _filter(service: str | None, topic: str | None, reason: str | None) -> "Filter":
    from services.common.dead_letters import Filter

    return Filter(service, topic, reason)


def _failure(error: Exception) -> typer.Exit:
    typer.echo(str(error), err=True)
    return typer.Exit(1)
