"""Small builders of typed data for the tests of the core."""

from collections.abc import Iterable

from vexstream.evidence import Access, Batch, Use
from vexstream.identity import Digest, Image, Workload
from vexstream.scan import Finding, ManifestDigest, Package, PlatformImage, Scan

CONFIG = Digest("sha256:" + "a" * 64)
MANIFEST = Digest("sha256:" + "b" * 64)
INDEX = Digest("sha256:" + "c" * 64)
IMAGE = Image(CONFIG, (MANIFEST,), ("registry.example/acme/Web",))
WEB = Workload("default", "web", "app")
JOB = Workload("default", "job", "app")
SECOND = 1_000_000
PERIOD = 10 * SECOND


def batch(
    start: int,
    end: int,
    paths: Iterable[bytes] = (),
    *,
    container: str = "c1",
    workload: Workload = WEB,
    started: int = 0,
    lost: int = 0,
    sequence: int = 0,
    use: Use = Use.OPENED,
    image: Image = IMAGE,
    period: int | None = None,
) -> Batch:
    """A batch; start, end, started and period (the pod's annotation) are whole seconds."""
    return Batch(
        node="node-1",
        run="run-1",
        sequence=sequence,
        container_id=container,
        workload=workload,
        image=image,
        started_at_us=started * SECOND,
        observed_from_us=start * SECOND,
        observed_to_us=end * SECOND,
        lost=lost,
        loss_reasons=("ring_buffer",) if lost else (),
        accesses=tuple(Access(path, use) for path in paths),
        learning_period_us=None if period is None else period * SECOND,
    )


def package(name: str, *files: bytes, **changes: str) -> Package:
    """A deb that owns the files."""
    purl = changes.get("purl", f"pkg:deb/debian/{name}@1.0?arch=amd64&distro=debian-12")
    return Package(
        id=changes.get("id", name),
        name=name,
        version="1.0",
        type="deb",
        purl=purl,
        files=files,
        unobservable=changes.get("unobservable"),
    )


def scan(packages: Iterable[Package], findings: Iterable[Finding]) -> Scan:
    """A scan that succeeded; the index, if the image has it, is of this platform alone."""
    return Scan(
        IMAGE,
        0,
        {"syft": "1", "grype": "2"},
        tuple(packages),
        tuple(findings),
        manifests=(
            ManifestDigest(MANIFEST, (PlatformImage(MANIFEST),)),
            ManifestDigest(INDEX, (PlatformImage(MANIFEST, "linux/amd64"),)),
        ),
    )
