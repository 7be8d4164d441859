"""``vexstream ci`` from beginning to end: image, container, tests, scan, statements, reports."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from services.ci import attest, images, reports
from services.ci.errors import CiError, ScanFailedError
from services.ci.options import Options
from services.ci.reports import Exit
from services.ci.trial import require_free, run_tests
from services.ci.watch import watching
from services.local.containerd import NAMESPACE, Containerd
from services.local.process import LocalError
from services.local.tools import cache_dir, find_tool, workspace
from services.scanner.errors import ToolMissingError
from services.scanner.images import ContainerdImages, Ctr
from services.scanner.scan import Scanner
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Tools
from vexstream.evidence import Batch
from vexstream.identity import Image
from vexstream.scan import Scan
from vexstream.trial import Outcome, Result, conclude


def run(options: Options, say: Callable[[str], None]) -> Exit:
    """Runs everything and writes the reports.

    Raises:
        CiError: there is no verdict; the text says why and what to do.
    """
    # What an earlier run left would be taken for this one's, should it come to no verdict.
    for report in reports.FILES:
        (options.output / report).unlink(missing_ok=True)
    # Before the tests, which may take long.
    key = attest.attestor() if options.sign or options.attach_to else None
    require_free(options.plan.port)
    try:
        result = _observe(options, say)
    except (LocalError, ToolMissingError) as error:
        raise CiError(str(error)) from error
    return reports.write(options, result, key, say)


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
