"""``vexstream ci`` from beginning to end: image, container, tests, scan, statements, reports."""

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path

from services.ci import attest, images, junit, sarif, summary
from services.ci.errors import CiError, ScanFailedError
from services.ci.gate import Gate
from services.ci.trial import Plan, run_tests
from services.ci.watch import watching
from services.local.containerd import NAMESPACE, Containerd
from services.local.process import LocalError
from services.local.tools import cache_dir, find_tool, workspace
from services.publish.attestor import Attestor
from services.scanner.errors import ToolMissingError
from services.scanner.images import ContainerdImages, Ctr
from services.scanner.scan import Scanner
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Tools
from vexstream import openvex
from vexstream.document_ids import base_of_tests
from vexstream.evidence import Batch
from vexstream.identity import Image
from vexstream.openvex import Publisher
from vexstream.scan import Scan
from vexstream.trial import Outcome, Result, conclude

_REPORTS = (
    "openvex.json", "openvex.sigstore.json", "vexstream.sarif", "junit.xml", "summary.md",
    "tests.log", "result.json",
)  # fmt: skip
_JOB = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Exit(IntEnum):
    """Exit statuses; 2 is the command line's own for wrong usage."""

    PASSED = 0
    POLICY_VIOLATED = 1
    TESTS_FAILED = 3
    NO_EVIDENCE = 4


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    image: str
    plan: Plan
    gate: Gate
    output: Path
    job: str = "tests"
    products: tuple[str, ...] = ()
    warn_below_percent: float = 10.0
    publisher: Publisher = field(default_factory=Publisher)
    sign: bool = False
    attach_to: str | None = None
    """Image in a registry that the signed document is attached to."""
    rule_out: bool = False
    """The tests are vouched to do all that the image does: what they did not use is ruled out."""


def job_name(text: str) -> str:
    """The job as a name that a pod and an IRI can have."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    return name if _JOB.fullmatch(name) else "tests"


def run(options: Options, say: Callable[[str], None]) -> Exit:
    """Runs everything and writes the reports.

    Raises:
        CiError: there is no verdict; the text says why and what to do.
    """
    # What an earlier run left would be taken for this one's, should it come to no verdict.
    for report in _REPORTS:
        (options.output / report).unlink(missing_ok=True)
    # Before the tests, which may take long.
    key = attest.attestor() if options.sign or options.attach_to else None
    try:
        result = _observe(options, say)
    except (LocalError, ToolMissingError) as error:
        raise CiError(str(error)) from error
    return _report(options, result, key, say)


def _observe(options: Options, say: Callable[[str], None]) -> Result:
    with workspace() as directory:
        say(f"looking for {options.image}")
        image = images.find_image(options.image, options.products, directory)
        say("starting containerd and importing the image")
        with Containerd(directory / "c", cache=cache_dir() / "images") as containerd:
            images.import_image(containerd, image)
            return asyncio.run(_watch_and_scan(options, containerd, image, directory, say))


async def _watch_and_scan(
    options: Options,
    containerd: Containerd,
    image: images.ImageFile,
    directory: Path,
    say: Callable[[str], None],
) -> Result:
    settings = ScannerSettings(
        containerd_address=containerd.endpoint.removeprefix("unix://"),
        containerd_namespace=NAMESPACE,
        syft=str(find_tool("syft")),
        grype=str(find_tool("grype")),
        work_dir=directory,
    )
    tools = Tools(settings)
    await _require_database(tools, directory)
    say(f"running the tests ({options.plan.where})")
    outcome, batches = await _watch(options, containerd, image)
    say("scanning with Syft and Grype")
    scan = await _scan(settings, tools, image.known_as.merged(batches[-1].image))
    scan = replace(scan, manifests=(*image.claimed, *scan.manifests))  # what was read counts more
    return conclude(
        scan, batches, image.known_as, outcome, options.job, options.warn_below_percent,
        rule_out=options.rule_out,
    )  # fmt: skip


async def _watch(
    options: Options, containerd: Containerd, image: images.ImageFile
) -> tuple[Outcome, list[Batch]]:
    async with watching(containerd.endpoint) as watch:
        outcome = await run_tests(containerd, image.config_digest, options.job, options.plan, watch)
    # The last batches come when the watch has ended.
    return outcome, watch.batches_of(outcome.container_id)


async def _require_database(tools: Tools, directory: Path) -> None:
    """Before the tests, which may take long: without a database there are no findings."""
    database = await tools.database(directory)
    if database.problem:
        try:
            await tools.update_database(directory)
        except Exception as error:
            raise ScanFailedError(
                f"Grype has no usable database ({database.problem}) and cannot fetch one "
                f"({error}): run `grype db update`, or `grype db import` where there is no network"
            ) from error


async def _scan(settings: ScannerSettings, tools: Tools, image: Image) -> Scan:
    source = ContainerdImages(Ctr(settings), settings.max_image_mib)
    scan = await Scanner(settings, source, tools).scan(image)
    if scan.failure is not None:
        raise ScanFailedError(f"{scan.failure.reason}: {scan.failure.detail}")
    return scan


def _report(
    options: Options, result: Result, key: Attestor | None, say: Callable[[str], None]
) -> Exit:
    violations = options.gate.violations(result.assessment.statements)
    status = _exit(result, bool(violations))
    folder = options.output
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vexstream.sarif").write_bytes(sarif.render(result))
    (folder / "junit.xml").write_bytes(junit.render(result, violations))
    (folder / "summary.md").write_text(summary.render(result, options.gate, violations))
    (folder / "tests.log").write_bytes(result.outcome.output)
    (folder / "result.json").write_text(
        json.dumps(_facts(options, result, len(violations), status))
    )
    for warning in result.warnings:
        say(f"WARNING: {warning}")
    _publish(options, result, key)
    return status


def _publish(options: Options, result: Result, key: Attestor | None) -> None:
    """The document, its signature, and the attachment; the last can fail, with all else written."""
    document, signed = options.output / "openvex.json", options.output / "openvex.sigstore.json"
    if not result.assessment.statements:  # OpenVEX knows no document without a statement
        return
    body = _document(options, result)
    document.write_bytes(body)
    if key is not None:
        bundle = attest.sign(body, result.image, key, signed)
        if options.attach_to is not None:
            attest.push(options.attach_to, result.image, bundle)


def _document(options: Options, result: Result) -> bytes:
    author, base = options.publisher.author, options.publisher.base_iri
    draft = openvex.render(result.assessment, result.image, 1, options.publisher)
    sealed = Publisher(author, base_of_tests(base, options.job, draft))
    return openvex.render(result.assessment, result.image, 1, sealed)


def _exit(result: Result, violated: bool) -> Exit:
    if not result.outcome.passed:
        return Exit.TESTS_FAILED
    return Exit.POLICY_VIOLATED if violated else Exit.PASSED


def _facts(options: Options, result: Result, violations: int, status: Exit) -> dict[str, object]:
    figures = result.figures
    return {
        "outcome": status.name.lower(),
        "config_digest": result.image.config_digest,
        "counts": result.assessment.counts(),
        "violations": violations,
        "fail_on": str(options.gate),
        "rule_out": options.rule_out,
        "warnings": list(result.warnings),
        "tests_exit_code": result.outcome.exit_code,
        "observed_seconds": figures.observed_us / 1e6,
        "packages": figures.packages,
        "packages_used": figures.packages_used,
        "files_used": figures.files_used,
        "files_used_by_tests": figures.files_used_by_tests,
        "events_lost": figures.lost,
        "has_document": bool(result.assessment.statements),
    }
