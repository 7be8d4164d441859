"""``vexstream ci``, ``merge`` and ``kubescape``: documents in a build, and out of documents."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(ci)
    app.command()(merge)
    app.command()(kubescape)


def ci(
    image: Annotated[
        str,
        typer.Option(help="Image under test: an archive's path, or a reference on this machine"),
    ],
    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- TEST-COMMAND", show_default=False)
    ] = None,
    tests_in: Annotated[
        str,
        typer.Option(
            help="container: as the container's command; exec: within the running container; "
            "host: on this machine against the running container"
        ),
    ] = "container",
    fail_on: Annotated[
        str, typer.Option(help="STATUS[:SEVERITY],... for example affected:critical")
    ] = "",
    rule_out: Annotated[
        bool,
        typer.Option(
            "--rule-out",
            help="You vouch that the tests do all that the image does: what they did not use is "
            "not_affected instead of under_investigation",
        ),
    ] = False,
    output: Annotated[Path, typer.Option(help="Folder of the reports")] = Path("vexstream-ci"),
    job: Annotated[str, typer.Option(help="Name of the job, in statements and ids")] = "tests",
    product: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME@sha256:... by which the image is or will be published, no index of several "
            "platforms; repeatable"
        ),
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(help="NAME=VALUE for container and tests; repeatable")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Wait until the container listens on it")
    ] = None,
    timeout_seconds: Annotated[float, typer.Option(min=1, help="Longest time of the tests")] = 1800,
    warn_below_percent: Annotated[
        float, typer.Option(min=0, max=100, help="Warn when fewer packages were used")
    ] = 10,
    sign: Annotated[
        bool,
        typer.Option(
            help="Sign the document: by VEXSTREAM_SIGNING_KEY, _KEY_FILE or _KEY_URI, or without a "
            "key by VEXSTREAM_SIGNING_KEYLESS"
        ),
    ] = False,
    attach: Annotated[
        str | None, typer.Option(help="Sign, and attach to this image in a registry")
    ] = None,
    author: Annotated[str, typer.Option(help="Author of the document")] = "vexstream",
    base_iri: Annotated[
        str, typer.Option(help="Namespace of document ids")
    ] = "https://vexstream.dev/vex",
) -> None:
    """Run an image's tests observed; write VEX, SARIF and JUnit.

    A summary goes to standard output, reports to the folder of --output.

    Exit status: 0 passed, 1 the policy is violated, 2 wrong usage, 3 the tests failed, 4 there is
    no evidence, 5 the document could not be signed or attached.
    """
    from services.ci.errors import CiError
    from services.ci.gate import BadPolicyError, parse_gate
    from services.ci.options import Options, job_name
    from services.ci.reports import Exit
    from services.ci.run import run
    from services.ci.trial import Plan, Where
    from services.common.logs import configure
    from vexstream.openvex import Publisher

    try:
        gate = parse_gate(fail_on)
    except BadPolicyError as error:
        raise typer.BadParameter(str(error), param_hint="--fail-on") from error
    if tests_in not in list(Where):
        raise typer.BadParameter(f"expected {', '.join(Where)}", param_hint="--tests-in")
    if not command and tests_in != Where.CONTAINER:
        raise typer.BadParameter(f"--tests-in {tests_in} needs a command after --")
    options = Options(
        image=image,
        plan=Plan(tuple(command or ()), Where(tests_in), _pairs(env or []), port, timeout_seconds),
        gate=gate,
        output=output,
        job=job_name(job),
        products=tuple(product or ()),
        warn_below_percent=warn_below_percent,
        publisher=Publisher(author=author, base_iri=base_iri.rstrip("/")),
        sign=sign,
        attach_to=attach,
        rule_out=rule_out,
    )
    configure("ci", "WARNING")
    try:
        status = run(options, _say)
    except CiError as error:
        _say(f"no verdict: {error}")
        raise typer.Exit(Exit.NO_EVIDENCE) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    typer.echo((output / "summary.md").read_text())
    raise typer.Exit(status)


def merge(
    documents: Annotated[list[Path], typer.Argument(help="OpenVEX documents of vexstream")],
    output: Annotated[Path | None, typer.Option(help="File to write [standard output]")] = None,
) -> None:
    """Merge documents of one image without contradiction.

    They may be of CI jobs and of production.

    Exit status: 0 they are merged, 2 they cannot be.
    """
    from vexstream.merge import MergeError, merge_documents

    try:
        merged = merge_documents([json.loads(path.read_bytes()) for path in documents])
    except (OSError, ValueError, RecursionError, MergeError) as error:
        _say(f"cannot merge: {error}")
        raise typer.Exit(2) from error
    if output is None:
        typer.echo(merged)
    else:
        output.write_bytes(merged)


def kubescape(
    document: Annotated[Path, typer.Argument(help="OpenVEX document of vexstream")],
    namespace: Annotated[str, typer.Option(help="Namespace of the resource")] = "kubescape",
) -> None:
    """Write a document as Kubescape's custom resource.

    For `kubectl apply -f -`.

    Exit status: 0 it is written, 2 it cannot be.
    """
    from vexstream.kubescape import NotOursError, resource

    try:
        made = resource(json.loads(document.read_bytes()), namespace)
    except (OSError, ValueError, RecursionError, NotOursError) as error:
        _say(f"cannot make a resource of {document}: {error}")
        raise typer.Exit(2) from error
    typer.echo(json.dumps(made, ensure_ascii=False, indent=1))


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--env")
        pairs[name] = value
    return pairs


def _say(text: str) -> None:
    print(f"vexstream: {text}", file=sys.stderr)
