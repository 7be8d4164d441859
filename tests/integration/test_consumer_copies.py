"""A package is in an image twice, and one of the two copies is used: no consumer leaves it out.

Real Syft finds the packages, real Trivy and Grype take the document. Some copies only a consumer
finds, or knows by another name than Syft: Trivy looks up jars by their hash and reads zipped eggs.
"""

import asyncio
import hashlib
import io
import json
import os
import sqlite3
import struct
import subprocess
import zipfile
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from services.local import grype_db as sample
from services.local.image_archive import ImageConfig, layer_of_directory, write_archive
from services.scanner.registry import RegistryImages
from services.scanner.registry_auth import Credentials
from tests.support import ecosystems, mapped
from tests.support.consumer_facts import write_facts
from tests.support.consumers import DATABASE_BUILT_AT, TOOL_TIMEOUT_S
from tests.support.registry import LocalRegistry
from tests.support.trivy import Trivy
from tests.unit.factories import PERIOD, SECOND, batch
from vexstream import csaf, cyclonedx, findings, openvex
from vexstream.assessment import assess
from vexstream.decision_log import Decisions
from vexstream.decisions import EVERY, Decision, DecisionSource
from vexstream.evidence import Evidence
from vexstream.identity import Image
from vexstream.openvex_reader import read
from vexstream.purl import parts
from vexstream.scan import Scan
from vexstream.status import Status
from vexstream.usage import FileIndex

pytestmark = pytest.mark.real

Found = set[tuple[str, str]]

_SITE = "lib/python3.11/site-packages"
_JARS = {"hashed": "hashed-1.0", "unversioned": "unversioned"}
"""Artifact -> the file that does not name it."""
_ADDED = [
    *(("java", f"org.acme:{name}", f"CVE-2099-100{n}") for n, name in enumerate(_JARS)),
    ("npm", "same", "CVE-2099-2000"),
    ("python", "same", "CVE-2099-2001"),
]
USED = {
    "npm/lodash", "pypi/flask", "pypi/requests", "pypi/same", "maven/log4j-core", "maven/hashed",
    "maven/unversioned", "golang/sys", "golang/stdlib", "golang/bbolt", "deb/libcurl4",
}  # fmt: skip
"""Of what a copy is used."""
NAMELESS = "wordpress-plugin/curl"
"""Without a purl: Grype alone finds vulnerabilities in it, by its CPE."""
IDLE = {"npm/minimist", "npm/same", "pypi/werkzeug", "deb/curl"}


def _npm(place: str, name: str, version: str) -> dict[str, str]:
    manifest = json.dumps({"name": name, "version": version})
    home = f"srv/{place}/node_modules/{name}"
    return {f"{home}/package.json": manifest, f"{home}/{place}.js": f"// {place} of {name}\n" * 30}


def _python(place: str, name: str, version: str) -> dict[str, str]:
    home, info = f"opt/{place}/{_SITE}", f"{name}-{version}.dist-info"
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    return {
        f"{home}/{name.lower()}/__init__.py": f"PLACE = '{place} of {name}'\n" * 30,
        f"{home}/{info}/METADATA": head,
        f"{home}/{info}/RECORD": f"{name.lower()}/__init__.py,,\n{info}/METADATA,,\n",
    }


def _egg(name: str, version: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as egg:
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        egg.writestr("EGG-INFO/PKG-INFO", head)
        egg.writestr(f"{name}/__init__.py", "")
    return content.getvalue()


def _packed(program: bytes) -> bytes:
    """As UPX packs it (its ``l_info``, ``p_info``, ``b_info``), in one block that is stored."""
    head = b"\x7fELF\2\1\1" + bytes(57)
    size = len(program)
    infos = struct.pack("<I4sHBB", 0, b"UPX!", 0, 13, 22) + struct.pack("<III", 0, size, size)
    return head + infos + struct.pack("<IIBBBB", size, size, 0, 0, 0, 0) + program


def _deb(name: str, architecture: str) -> str:
    return (
        f"Package: {name}\nStatus: install ok installed\nSource: curl\nMulti-Arch: same\n"
        f"Maintainer: Debian <d@debian.org>\nArchitecture: {architecture}\n"
        "Version: 7.88.1-10\nDescription: test\n\n"
    )


def _fill(root: Path, go_program: Path) -> None:
    """Every package in ``a`` or ``one``, which nothing uses, and again in ``b`` or ``two``."""
    program = go_program.read_bytes()
    library = "usr/lib/{}-linux-gnu/libcurl.so.4"
    ecosystems.write(root, {
        **_npm("a", "lodash", "4.17.20"), **_npm("b", "lodash", "4.17.20"),
        **_npm("a", "minimist", "1.2.5"), **_npm("a", "same", "1.0.0"),
        **_python("a", "same", "1.0.0"),
        **_python("a", "Flask", "2.2.2"), **_python("b", "flask", "2.2.2"),
        **_python("a", "Werkzeug", "2.2.2"), **_python("a", "requests", "2.28.1"),
        f"opt/b/{_SITE}/requests-2.28.1-py3.11.egg": _egg("requests", "2.28.1"),
        "usr/local/bin/one": program, "usr/local/bin/two": program + b"\0" * 4096,
        "srv/wp-content/plugins/curl/curl.php":
            "<?php\n/*\nPlugin Name: Curl\nVersion: 7.88.1\nAuthor: Curl\n*/\n",
        "usr/local/bin/packed": _packed(program),
        "etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "etc/debian_version": "12.0\n",
        "var/lib/dpkg/status": _deb("libcurl4", "amd64")
        + _deb("libcurl4", "i386") + _deb("curl", "amd64"),
        "var/lib/dpkg/info/curl:amd64.list": "/usr/bin/curl\n", "usr/bin/curl": "curl" * 99,
        "var/lib/dpkg/info/libcurl4:amd64.list": f"/{library.format('x86_64')}\n",
        "var/lib/dpkg/info/libcurl4:i386.list": f"/{library.format('i386')}\n",
        library.format("x86_64"): "amd64" * 99, library.format("i386"): "i386" * 99,
    })  # fmt: skip
    for name in ("one", "two", "packed"):
        (root / "usr/local/bin" / name).chmod(0o755)
    log4j = "org.apache.logging.log4j:log4j-core:2.14.1"
    inner = ecosystems.jar(root / "opt/a/log4j-core-2.14.1.jar", [log4j])
    other = ecosystems.jar(root / "inner.jar", [log4j], {"other.txt": b"another build"})
    assert inner != other
    (root / "inner.jar").unlink()
    ecosystems.jar(root / "opt/b/app.jar", ["org.shop:app:1"], {"BOOT-INF/lib/l.jar": other})
    for name in _JARS:
        ecosystems.jar(root / f"opt/a/{name}-1.0.jar", [f"org.acme:{name}:1.0"])
    ecosystems.jar(root / "opt/b/hashed-1.0.jar", [], {"a.txt": b"without coordinates"})
    ecosystems.jar(root / "opt/b/unversioned.jar", [], {"b.txt": b"without a version"})


OPENED = [
    b"/srv/b/node_modules/lodash/b.js",
    f"/opt/a/{_SITE}/same/__init__.py".encode(),
    f"/opt/b/{_SITE}/flask/__init__.py".encode(),
    f"/opt/b/{_SITE}/requests-2.28.1-py3.11.egg".encode(),
    b"/usr/local/bin/two",
    b"/usr/lib/i386-linux-gnu/libcurl.so.4",
    b"/opt/b/app.jar",
    b"/opt/b/hashed-1.0.jar",
    b"/opt/b/unversioned.jar",
]


@dataclass(frozen=True)
class Scene:
    """The image in a registry, and the consumers."""

    folder: Path
    reference: str
    image: Image
    trivy: Trivy
    grype: Path
    environment: dict[str, str]

    def scan(self, syft: Path) -> Scan:
        """By the real Syft and Grype."""
        packages = mapped.packages(self.folder / "root", self.folder / "work", syft)
        made = self.folder / "syft.json"
        made.write_bytes(self.run(syft, f"registry:{self.reference}", "-o", "json"))
        report = self.run(self.grype, f"sbom:{made}", "-o", "json")
        found = findings.parse(report, {package.id for package in packages})
        source = RegistryImages(Credentials([]), [], TOOL_TIMEOUT_S, 10_000)
        fetched = asyncio.run(source.fetch(self.image, self.folder))
        return Scan(self.image, SECOND, {}, packages, found.findings, manifests=fetched.manifests)

    def sboms(self, reference: str, syft: Path) -> dict[str, Path]:
        """Of an image, by Trivy and by Syft, in CycloneDX."""
        by_trivy = self.trivy.run(
            "image", reference, "--image-src", "remote", "--format", "cyclonedx",
            "--skip-db-update", "--skip-java-db-update", "--offline-scan",
        ).stdout.encode()  # fmt: skip
        by_syft = self.run(syft, f"registry:{reference}", "-o", "cyclonedx-json")
        return {
            "trivy": self.write("trivy.cdx.json", by_trivy),
            "syft": self.write("syft.cdx.json", by_syft),
        }

    def trivy_image(self, *vex: Path) -> Found:
        return self._trivy("image", self.reference, "--image-src", "remote", *_given(vex))

    def trivy_sbom(self, sbom: Path, *vex: Path) -> Found:
        return self._trivy("sbom", str(sbom), *_given(vex))

    def _trivy(self, *words: str) -> Found:
        report = self.trivy.scan(words[0], words[1], *words[2:])
        return {
            (found["VulnerabilityID"], _kind_and_name(found["PkgIdentifier"]["PURL"]))
            for result in report.get("Results") or []
            for found in result.get("Vulnerabilities") or []
        }

    def grype_image(self, *vex: Path) -> Found:
        return {
            (one["vulnerability"]["id"], _kind_and_name(one["artifact"]["purl"] or NAMELESS))
            for one in self.grype_matches(*vex)
        }

    def grype_matches(self, *vex: Path) -> list[dict[str, Any]]:
        report = json.loads(
            self.run(self.grype, f"registry:{self.reference}", "-o", "json", *_given(vex))
        )
        matches: list[dict[str, Any]] = report["matches"]
        return matches

    def run(self, *command: str | Path) -> bytes:
        done = subprocess.run(command, env=self.environment, capture_output=True, check=False,
                              timeout=TOOL_TIMEOUT_S)  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()[-3000:]
        return done.stdout

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


def _kind_and_name(purl: str) -> str:
    path = parts(purl).path.removeprefix("pkg:").lower()
    return f"{path.partition('/')[0]}/{path.rpartition('/')[2]}"


def _given(vex: tuple[Path, ...]) -> list[str]:
    return [word for path in vex for word in ("--vex", str(path))]


def _facts(folder: Path) -> Path:
    path = folder / "facts.json"
    write_facts(path)
    whole = json.loads(path.read_bytes())
    for number, (ecosystem, name, cve) in enumerate(_ADDED):
        whole["facts"].append({
            "id": f"GHSA-test-same-000{number}", "aliases": [cve], "ecosystem": ecosystem,
            "package": name, "severity": "high", "fix_state": "not-fixed",
            "affected": [{"versions": "< 99.0.0", "fixed_in": None}],
            "data_source": "https://example.com",
        })  # fmt: skip
    path.write_text(json.dumps(whole))
    return path


def _match_by_cpe(database: Path) -> None:
    """Grype finds the plugin by its CPE, as it does with records of NVD's."""
    with closing(sqlite3.connect(database)) as tables, tables:
        provider = "INSERT INTO providers (id, version, processor) VALUES ('nvd', '1', 'test')"
        tables.execute(provider)
        ranges = json.dumps({"ranges": [{"version": {"constraint": "< 99"}}]})
        about = json.dumps({"id": "CVE-2023-38545"})
        blobs = [tables.execute("INSERT INTO blobs (value) VALUES (?)", (text,)).lastrowid
                 for text in (about, ranges)]  # fmt: skip
        found = tables.execute(
            "INSERT INTO vulnerability_handles (name, status, provider_id, blob_id)"
            " VALUES ('CVE-2023-38545', 'active', 'nvd', ?)", (blobs[0],)
        ).lastrowid  # fmt: skip
        cpe = tables.execute(
            "INSERT INTO cpes (part, vendor, product, target_software)"
            " VALUES ('a', 'curl', 'curl', 'wordpress')"
        ).lastrowid
        tables.execute(
            "INSERT INTO affected_cpe_handles (vulnerability_id, cpe_id, blob_id) VALUES (?, ?, ?)",
            (found, cpe, blobs[1]),
        )


def _index_jars(database: Path, root: Path) -> None:
    """What Trivy's index of Maven knows of the jars that do not name themselves."""
    with closing(sqlite3.connect(database)) as tables, tables:
        for number, (name, file) in enumerate(_JARS.items()):
            sha1 = hashlib.sha1((root / f"opt/b/{file}.jar").read_bytes(), usedforsecurity=False)
            tables.execute("INSERT INTO artifacts VALUES (?, 'org.acme', ?)", (number, name))
            tables.execute("INSERT INTO indices VALUES (?, '1.0', ?, 'jar')",
                           (number, sha1.digest()))  # fmt: skip


@pytest.fixture(scope="module")
def scene(
    registry: LocalRegistry,
    trivy_program: str,
    go_program: Path,
    grype: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Scene:
    folder = tmp_path_factory.mktemp("copies")
    root, work = folder / "root", folder / "work"
    work.mkdir()
    _fill(root, go_program)
    layer = folder / "layer.tar"
    layer_of_directory(root, layer)
    archive = write_archive(folder / "image.tar", "localhost/copies:1", [layer], ImageConfig())
    registry.push(archive, "acme/copies:1")
    repository = registry.repository("acme/copies")
    reference = f"{repository}@{archive.manifest_digest}"
    stated = _facts(folder)
    trivy = Trivy(trivy_program, folder / "trivy", sample.read_facts(stated), go_program)
    _index_jars(folder / "trivy/cache/java-db/trivy-java.db", root)
    built = sample.build(stated, folder / "grype", DATABASE_BUILT_AT)
    sample.install(built, folder / "grype-cache", grype)
    [installed] = (folder / "grype-cache").rglob(sample.DATABASE_NAME)
    _match_by_cpe(installed)
    environment = {
        **os.environ,
        **sample.environment(folder / "grype-cache"),
        "GRYPE_DB_VALIDATE_BY_HASH_ON_START": "false",
        "GRYPE_REGISTRY_INSECURE_USE_HTTP": "true",
        "SYFT_REGISTRY_INSECURE_USE_HTTP": "true",
        "SYFT_CHECK_FOR_APP_UPDATE": "false",
        "DOCKER_CONFIG": str(folder),
    }
    image = Image(archive.config_digest, (archive.manifest_digest,), (f"{repository}:1",))
    return Scene(folder, reference, image, trivy, grype, environment)


@pytest.fixture(scope="module")
def scan(scene: Scene, syft: Path) -> Scan:
    return scene.scan(syft)


@pytest.fixture(scope="module")
def document(scan: Scan) -> bytes:
    return _document(scan, OPENED)


def _document(scan: Scan, opened: list[bytes], decisions: Iterable[Decision] = ()) -> bytes:
    evidence = Evidence(scan.image)
    evidence.merge(replace(batch(0, 10, opened), image=scan.image))
    assessed = assess(scan, FileIndex(scan), evidence, PERIOD, Decisions(decisions))
    return openvex.render(assessed, scan.image, 1, openvex.Publisher())


def _hidden(before: Found, after: Found) -> set[str]:
    hidden = {name for _, name in before - after}
    assert not hidden & {*USED, NAMELESS}, "what is used is left out"
    return hidden


def test_every_package_is_found_by_the_consumers(scene: Scene) -> None:
    """Else nothing could be left out."""
    assert {name for _, name in scene.trivy_image()} == USED | IDLE
    assert {name for _, name in scene.grype_image()} >= {*IDLE, NAMELESS}


def test_openvex(scene: Scene, document: bytes) -> None:
    vex = scene.write("openvex.json", document)
    assert _hidden(scene.trivy_image(), scene.trivy_image(vex)) == IDLE
    assert _hidden(scene.grype_image(), scene.grype_image(vex)) == IDLE


def test_a_packed_program_of_go(scene: Scene, scan: Scan) -> None:
    """Grype unpacks it."""
    places = [one["artifact"]["locations"][0]["path"] for one in scene.grype_matches()]
    assert "/usr/local/bin/packed" in places
    vex = scene.write("packed.json", _document(scan, [b"/usr/local/bin/packed"]))
    names = {name for _, name in scene.grype_image() - scene.grype_image(vex)}
    assert "npm/lodash" in names
    assert not names & {"golang/sys", "golang/stdlib", "golang/bbolt"}


def test_a_package_without_a_purl(scene: Scene, scan: Scan) -> None:
    """Grype applies to it what the oldest statement says of the vulnerability in any other."""
    decided = Decision(
        EVERY, "CVE-2023-38545", EVERY, Status.NOT_AFFECTED, "no SOCKS", "me",
        DecisionSource.HUMAN, 1,
    )  # fmt: skip
    vex = scene.write("nameless.json", _document(scan, [], [decided]))
    before, after = scene.grype_image(), scene.grype_image(vex)
    assert ("CVE-2024-2379", "deb/curl") in before - after
    assert ("CVE-2023-38545", NAMELESS) in after


def test_csaf(scene: Scene, document: bytes) -> None:
    vex = scene.write("csaf.json", csaf.render(document, scene.image))
    assert _hidden(scene.trivy_image(), scene.trivy_image(vex)) == IDLE
    assert scene.grype_image() == scene.grype_image(vex)


def test_cyclonedx(scene: Scene, document: bytes, syft: Path) -> None:
    for name, sbom in scene.sboms(scene.reference, syft).items():
        linked = cyclonedx.render_linked(document, scene.image, sbom.read_bytes())
        vex = scene.write(f"linked-{name}.json", linked)
        assert _hidden(scene.trivy_sbom(sbom), scene.trivy_sbom(sbom, vex)) <= IDLE


def test_an_sbom_of_an_image_that_was_built_upon_this_one(
    scene: Scene, document: bytes, registry: LocalRegistry, syft: Path
) -> None:
    """Its labels name this image, and scanners copy them into the SBOM."""
    labels = {"org.opencontainers.image.base.digest": scene.image.manifest_digests[0]}
    config, layers = ImageConfig(labels=labels), [scene.folder / "layer.tar"]
    derived = write_archive(scene.folder / "derived.tar", "localhost/derived:1", layers, config)
    registry.push(derived, "acme/derived:1")
    reference = f"{registry.repository('acme/derived')}@{derived.manifest_digest}"
    sboms = scene.sboms(reference, syft)
    assert scene.image.manifest_digests[0] in sboms["trivy"].read_text("utf-8")
    for sbom in sboms.values():
        with pytest.raises(cyclonedx.OtherSbomError):
            cyclonedx.render_linked(document, scene.image, sbom.read_bytes())


def test_of_two_documents_the_older_one_may_win(scene: Scene, document: bytes) -> None:
    """Why docs/consumers.md says to give one: what one rules out, no other takes back."""
    older = json.loads(document)
    newer = json.loads(document)
    newer["timestamp"] = "2031-01-01T00:00:00Z"
    for statement in newer["statements"]:
        statement["timestamp"] = newer["timestamp"]
        if statement["status"] == "not_affected":
            statement["status"] = "affected"
            statement["action_statement"] = "Update."
            del statement["justification"], statement["impact_statement"]
    assert all(s.status != "not_affected" for s in read(json.dumps(newer).encode()).statements)
    files = (
        scene.write("older.json", json.dumps(older).encode()),
        scene.write("newer.json", json.dumps(newer).encode()),
    )
    for given in (files, files[::-1]):
        for scan in (scene.trivy_image, scene.grype_image):
            assert {name for _, name in scan() - scan(*given)} == IDLE
