"""What a run leaves: the document, its signature and attachment, and reports that all say the same
of how it ended, as the exit status does."""

import json
from collections.abc import Callable
from enum import IntEnum

from services.ci import attest, junit, sarif, summary
from services.ci.errors import PublicationError
from services.ci.options import Options
from services.publish.attestor import Attestor
from vexstream import openvex
from vexstream.document_ids import base_of_tests
from vexstream.openvex import Publisher
from vexstream.trial import Result

FILES = (
    "openvex.json", "openvex.sigstore.json", "vexstream.sarif", "junit.xml", "summary.md",
    "tests.log", "result.json",
)  # fmt: skip


class Exit(IntEnum):
    """Exit statuses; of several that are true the first in this order. 2 is the command line's own
    for wrong usage."""

    TESTS_FAILED = 3
    POLICY_VIOLATED = 1
    NOT_PUBLISHED = 5
    PASSED = 0
    NO_EVIDENCE = 4


def write(
    options: Options, result: Result, key: Attestor | None, say: Callable[[str], None]
) -> Exit:
    """Publishes the document, as far as the options ask for it, and writes the reports."""
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    unpublished = _publish(options, result, key)
    violations = options.gate.violations(result.assessment.statements)
    status = _exit(result, violated=bool(violations), published=unpublished is None)
    (folder / "vexstream.sarif").write_bytes(sarif.render(result))
    (folder / "junit.xml").write_bytes(junit.render(result, violations, unpublished))
    (folder / "summary.md").write_text(
        summary.render(result, options.gate, violations, unpublished)
    )
    (folder / "tests.log").write_bytes(result.outcome.output)
    (folder / "result.json").write_text(
        json.dumps(_facts(options, result, len(violations), status, unpublished))
    )
    for warning in result.warnings:
        say(f"WARNING: {warning}")
    if unpublished is not None:
        say(f"not published: {unpublished}")
    return status


def _publish(options: Options, result: Result, key: Attestor | None) -> str | None:
    """The document, its signature, and the attachment; why it was not signed or attached."""
    document, signed = options.output / "openvex.json", options.output / "openvex.sigstore.json"
    if not result.assessment.statements:  # OpenVEX knows no document without a statement
        return None
    body = _document(options, result)
    document.write_bytes(body)
    try:
        if key is not None:
            bundle = attest.sign(body, result.image, key, signed)
            if options.attach_to is not None:
                attest.push(options.attach_to, result.image, bundle)
    except PublicationError as error:
        return str(error)
    return None


def _document(options: Options, result: Result) -> bytes:
    author, base = options.publisher.author, options.publisher.base_iri
    draft = openvex.render(result.assessment, result.image, 1, options.publisher)
    sealed = Publisher(author, base_of_tests(base, options.job, draft))
    return openvex.render(result.assessment, result.image, 1, sealed)


def _exit(result: Result, *, violated: bool, published: bool) -> Exit:
    if not result.outcome.passed:
        return Exit.TESTS_FAILED
    if violated:
        return Exit.POLICY_VIOLATED
    return Exit.PASSED if published else Exit.NOT_PUBLISHED


def _facts(
    options: Options, result: Result, violations: int, status: Exit, unpublished: str | None
) -> dict[str, object]:
    figures = result.figures
    return {
        "outcome": status.name.lower(),
        "config_digest": result.image.config_digest,
        "counts": result.assessment.counts(),
        "violations": violations,
        "fail_on": str(options.gate),
        "rule_out": options.rule_out,
        "warnings": list(result.warnings),
        "not_published": unpublished,
        "tests_exit_code": result.outcome.exit_code,
        "observed_seconds": figures.observed_us / 1e6,
        "packages": figures.packages,
        "packages_used": figures.packages_used,
        "files_used": figures.files_used,
        "files_used_by_tests": figures.files_used_by_tests,
        "events_lost": figures.lost,
        "has_document": bool(result.assessment.statements),
    }
