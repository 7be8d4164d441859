"""Real images: what the scanner says a package owns, against what the system in it says.

The other side is not our code: a program inside a running container asks dpkg's lists, pip's
records and the kernel (realpath).
"""

import asyncio
import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.local import grype_db as sample
from services.local.containerd import Containerd
from services.local.image import DEMO
from services.local.image_archive import ImageArchive
from services.local.ports import free_port
from services.scanner.errors import TooLargeError
from services.scanner.images import ContainerdImages, Ctr
from services.scanner.sboms import SbomStore
from services.scanner.scan import Scanner
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Tools
from vexstream.filekinds import owner_path
from vexstream.identity import Digest, Image
from vexstream.ownership import owners
from vexstream.scan import FailureReason, Finding, Package, Scan

pytestmark = pytest.mark.real

_LIST_FILES = """
import glob, importlib.metadata, json, os, sys
def regular(path):
    if os.path.isfile(path) and not os.path.islink(path):
        return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
deb = {}
for lst in glob.glob("/var/lib/dpkg/info/*.list"):
    name = os.path.basename(lst)[:-5].split(":")[0]
    deb[name] = [r for r in map(regular, open(lst).read().splitlines()) if r]
python = {}
for dist in importlib.metadata.distributions():
    files = [regular(str(dist.locate_file(f))) for f in dist.files or ()]
    python[dist.metadata["Name"].lower().replace("_", "-")] = [f for f in files if f]
json.dump({"deb": deb, "python": python}, sys.stdout)
"""


@pytest.fixture(scope="module")
def settings(
    containerd: Containerd,
    demo_image: ImageArchive,
    syft: Path,
    grype: Path,
    grype_db: Path,
) -> Iterator[ScannerSettings]:
    containerd.import_image(demo_image.path, DEMO)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as work:
        for name, value in sample.environment(grype_db).items():
            patch.setenv(name, value)
        yield ScannerSettings(
            containerd_address=containerd.endpoint.removeprefix("unix://"),
            syft=str(syft),
            grype=str(grype),
            work_dir=Path(work),
        )


def scan(settings: ScannerSettings, image: Image, **changes: Any) -> Scan:
    """Scans with changed settings."""
    changed = settings.model_copy(update=changes)
    source = ContainerdImages(Ctr(changed), changed.max_image_mib)
    return asyncio.run(Scanner(changed, source, Tools(changed)).scan(image))


@pytest.fixture(scope="module")
def demo(settings: ScannerSettings, demo_image: ImageArchive) -> Scan:
    """The scan of the demo image, found by its configuration digest alone."""
    found = scan(settings, Image(demo_image.config_digest))
    assert found.failure is None
    return found


@pytest.fixture(scope="module")
def inside(containerd: Containerd, demo: Scan) -> dict[str, dict[str, list[str]]]:
    """What the container itself says: type -> package -> files."""
    del demo  # the image must be there
    container = containerd.run(DEMO, "asked", env={"PORT": str(free_port())})
    try:
        python = "/opt/app/venv/bin/python"
        done = containerd.exec(container, [python, "-c", _LIST_FILES])
        assert done.exit_code == 0, done.stderr
        answer: dict[str, dict[str, list[str]]] = json.loads(done.stdout)
        return answer
    finally:
        containerd.stop(container)


def _by_name(found: Scan, package_type: str) -> dict[str, Package]:
    return {p.name.lower().replace("_", "-"): p for p in found.packages if p.type == package_type}


@pytest.mark.parametrize("package_type", ["deb", "python"])
def test_every_file_that_the_system_lists_is_owned_by_its_package(
    demo: Scan, inside: dict[str, dict[str, list[str]]], package_type: str
) -> None:
    packages = _by_name(demo, package_type)
    listed = {name: files for name, files in inside[package_type].items() if files}
    assert len(listed) > 15
    assert listed.keys() <= packages.keys()
    missing = {
        (name, path)
        for name, files in listed.items()
        for path in files
        if owner_path(path.encode()) not in packages[name].files
    }
    assert missing == set()


def test_usr_merge_is_resolved(demo: Scan) -> None:
    loader = b"/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
    if loader not in owners(demo.packages):
        pytest.skip("this machine builds the image for another architecture")
    packages = {package.id: package.name for package in demo.packages}
    assert [packages[owner] for owner in owners(demo.packages)[loader]] == ["libc6"]
    assert not [path for path in owners(demo.packages) if path.startswith((b"/lib/", b"/bin/"))]


def test_findings_name_packages_that_can_be_observed(demo: Scan) -> None:
    packages = {package.id: package for package in demo.packages}
    flask = next(f for f in demo.findings if "CVE-2023-30861" in (f.vulnerability, *f.aliases))
    assert packages[flask.package_id].name.lower() == "flask"
    assert packages[flask.package_id].unobservable is None
    assert flask.fix_state == "fixed"


def test_limits_end_a_scan_with_the_limit_named(
    settings: ScannerSettings, demo_image: ImageArchive
) -> None:
    image = Image(demo_image.config_digest)
    for change, reason, text in (
        ({"max_image_mib": 1}, FailureReason.TOO_LARGE, "VEXSTREAM_MAX_IMAGE_MIB"),
        ({"max_unpacked_mib": 1}, FailureReason.TOO_LARGE, "VEXSTREAM_MAX_UNPACKED_MIB"),
        ({"max_sbom_mib": 0}, FailureReason.TOO_LARGE, "VEXSTREAM_MAX_SBOM_MIB"),
        ({"tool_memory_mib": 64}, FailureReason.SBOM_FAILED, "syft"),
    ):
        failure = scan(settings, image, **change).failure
        assert failure is not None, change
        assert (failure.reason, text in failure.detail) == (reason, True), failure
    assert not list(settings.work_dir.glob("vexstream-scan-*"))
    assert TooLargeError.reason is FailureReason.TOO_LARGE


def test_documents_that_exist_take_the_place_of_the_tools(
    settings: ScannerSettings, demo: Scan, tmp_path: Path
) -> None:
    """CycloneDX of Syft has no lists of files: dpkg's own are in the image, pip's are not read."""
    digest = demo.image.config_digest
    stem = digest.replace(":", "-")
    made = SbomStore(settings.work_dir / "sboms", 1).get(digest, tmp_path)
    assert made is not None
    subprocess.run(
        [settings.syft, "convert", made, "-o", f"cyclonedx-json={tmp_path}/{stem}.sbom.json"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    made.unlink()
    purl = next(package.purl for package in demo.packages if package.name.lower() == "flask")
    found = {"VulnerabilityID": "CVE-2099-1", "PkgName": "flask", "PkgIdentifier": {"PURL": purl}}
    report = {"SchemaVersion": 2, "Results": [{"Type": "pip", "Vulnerabilities": [found]}]}
    (tmp_path / f"{stem}.findings.json").write_text(json.dumps(report))
    unusable = {"grype": "/usr/bin/false", "documents_dir": tmp_path, "sbom_dir": tmp_path / "s"}
    given = scan(settings, Image(digest), **unusable)
    assert given.failure is None
    [finding] = given.findings
    packages = {package.id: package for package in given.packages}
    assert packages[finding.package_id].name.lower() == "flask"
    assert packages[finding.package_id].unobservable is not None
    assert _by_name(given, "deb")["curl"].files == _by_name(demo, "deb")["curl"].files
    assert "grype_db_built" not in given.tools
    (tmp_path / f"{stem}.sbom.json").write_text('{"bomFormat": "CycloneDX", "components": [')
    failure = scan(settings, Image(digest), **unusable).failure
    assert failure is not None
    assert failure.reason is FailureReason.SBOM_FAILED


def test_documents_of_another_image_are_not_those_of_one_that_claims_its_digest(
    settings: ScannerSettings, demo: Scan, tmp_path: Path
) -> None:
    claimed = Digest("sha256:" + "1" * 64)
    (tmp_path / f"{claimed.replace(':', '-')}.sbom.json").write_text("of another image")
    elsewhere = {"documents_dir": tmp_path, "sbom_dir": tmp_path / "s"}
    made = scan(settings, Image(demo.image.config_digest, (claimed,)), **elsewhere)
    assert made.failure is None, made.failure
    assert made.findings == demo.findings


def test_documents_of_the_tools_themselves_give_the_same_scan(
    settings: ScannerSettings, demo: Scan, tmp_path: Path
) -> None:
    """Syft's own JSON and Grype's own report, made elsewhere."""
    stem = demo.image.config_digest.replace(":", "-")
    made = SbomStore(settings.work_dir / "sboms", 1).get(demo.image.config_digest, tmp_path)
    assert made is not None
    made.rename(tmp_path / f"{stem}.sbom.json")
    with (tmp_path / f"{stem}.findings.json").open("wb") as report:
        subprocess.run(
            [settings.grype, f"sbom:{tmp_path}/{stem}.sbom.json", "-o", "json"], stdout=report,
            check=True, timeout=60,
        )  # fmt: skip
    unusable = {"grype": "/usr/bin/false", "documents_dir": tmp_path, "sbom_dir": tmp_path / "s"}
    given = scan(settings, Image(demo.image.config_digest), **unusable)
    assert given.failure is None, given.failure
    assert given.packages == demo.packages
    assert given.findings == demo.findings
    assert given.tools["grype_db_built"] == demo.tools["grype_db_built"]


def test_an_sbom_in_spdx_is_read(settings: ScannerSettings, demo: Scan, tmp_path: Path) -> None:
    stem = demo.image.config_digest.replace(":", "-")
    made = SbomStore(settings.work_dir / "sboms", 1).get(demo.image.config_digest, tmp_path)
    assert made is not None
    subprocess.run(
        [settings.syft, "convert", made, "-o", f"spdx-json={tmp_path}/{stem}.sbom.json"],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    elsewhere = {"documents_dir": tmp_path, "sbom_dir": tmp_path / "s"}
    given = scan(settings, Image(demo.image.config_digest), **elsewhere)
    assert given.failure is None, given.failure
    assert _by_name(given, "deb").keys() == _by_name(demo, "deb").keys()
    assert _by_name(given, "deb")["curl"].files == _by_name(demo, "deb")["curl"].files
    assert _by_name(given, "python").keys() == _by_name(demo, "python").keys()
    vulnerable = {(f.vulnerability, p.purl) for f, p in _with_packages(demo)}
    assert vulnerable == {(f.vulnerability, p.purl) for f, p in _with_packages(given)}


def _with_packages(found: Scan) -> list[tuple[Finding, Package]]:
    packages = {package.id: package for package in found.packages}
    return [(finding, packages[finding.package_id]) for finding in found.findings]


def test_a_grype_without_database_is_a_failure_not_an_image_without_findings(
    settings: ScannerSettings, demo_image: ImageArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRYPE_DB_CACHE_DIR", str(settings.work_dir / "none"))
    failure = scan(settings, Image(demo_image.config_digest)).failure
    assert failure is not None
    assert failure.reason is FailureReason.MATCH_FAILED
    assert "database does not exist" in failure.detail
