"""Real consumers and our documents, on one image with packages of five ecosystems.

``Stage`` puts the image into a real registry, scans it with Syft and Grype, and writes a document
in which every ecosystem has every status. Each outcome is what the consumer reports without the
document and with it, and what it should leave out.
"""

import asyncio
import dataclasses
import itertools
import json
import os
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.local import grype_db as sample
from services.local.image_archive import ImageArchive, architecture
from services.publish.attach import attach
from services.publish.credentials import DockerConfig
from services.publish.registry import INDEX_TYPE, Manifest, RegistryClient
from services.publish.signing import Signer
from services.publish.signing import attest as sign
from services.scanner.registry import RegistryImages
from services.scanner.registry_auth import Credentials
from tests.support import consumer_image
from tests.support.consumer_facts import write_facts
from tests.support.registry import LocalRegistry
from tests.support.trivy import Trivy
from tests.support.trivy import findings as trivy_findings
from vexstream import csaf, cyclonedx, findings, openvex, sbom
from vexstream.assessment import Assessment, Status, assess
from vexstream.identity import Digest, Image
from vexstream.intoto import bundle_bytes
from vexstream.openvex_reader import Document, Statement, read
from vexstream.products import IndexProducts
from vexstream.purl import product
from vexstream.scan import Package, Scan
from vexstream.status import RULES_OUT
from vexstream.usage import FileIndex

Found = set[tuple[str, str]]
"""(vulnerability, package) as a consumer names them."""

TOOL_TIMEOUT_S = 120
DATABASE_BUILT_AT = datetime(2026, 1, 1, tzinfo=UTC)
OTHER = "another digest of the same name"
FOREIGN = "arm64" if architecture() == "amd64" else "amd64"
SHARED = ("index of two platforms", "tag of two platforms")
_CYCLE = (Status.NOT_AFFECTED, Status.AFFECTED, Status.FIXED, Status.UNDER_INVESTIGATION)
SCANNED_AT_US = 1_700_000_000_000_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one consumer did with one document."""

    before: Found
    after: Found
    expected: Found
    """What the document rules out."""
    native: Found
    """Those of them that are of packages with the architecture in their name."""

    @property
    def suppressed(self) -> Found:
        """What the consumer left out."""
        return self.before - self.after


class Stage:
    """The image in a registry under a tag, a platform digest and an index digest."""

    def __init__(
        self,
        folder: Path,
        archive: ImageArchive,
        other: ImageArchive,
        foreign: ImageArchive,
        registry: LocalRegistry,
        trivy: Trivy,
        grype: Path,
        syft: Path,
        facts: Path,
    ) -> None:
        self.folder, self.registry, self.trivy = folder, registry, trivy
        self._grype, self._syft = grype, syft
        self._environment = self._prepare_grype(facts)
        self.repository = registry.repository("acme/app")
        registry.push(archive, "acme/app:1")
        registry.push(other, "acme/app:2")
        registry.push(foreign, "acme/app:foreign")
        mine = {architecture(): archive.manifest_digest}
        self.index = self._push_index("multi", mine)
        self.shared = self._push_index("two", mine | {FOREIGN: foreign.manifest_digest})
        self.image = Image(
            archive.config_digest,
            tuple(sorted((archive.manifest_digest, self.index, self.shared))),
            (f"{self.repository}:1",),
        )
        self.references = {
            "tag": f"{self.repository}:1",
            "platform digest": f"{self.repository}@{archive.manifest_digest}",
            "index digest": f"{self.repository}@{self.index}",
            "tag of the index": f"{self.repository}:multi",
            SHARED[0]: f"{self.repository}@{self.shared}",
            SHARED[1]: f"{self.repository}:two",
            OTHER: f"{self.repository}:2",
        }
        self.references |= {f"{name}, {FOREIGN}": self.references[name] for name in SHARED}
        self.syft_json, self.cyclonedx_sbom = self._scan_sbom(self.references["platform digest"])
        self.scan = self._scan()
        assessed = every_status(assess(self.scan, FileIndex(self.scan), None, 1))
        self.document = self.written(assessed)
        self.trusting = self.written(assessed, IndexProducts.NATIVE)
        self.files = self._write_files()
        self._before: dict[tuple[str, ...], Found] = {}

    def trivy_image(self, target: str, *vex: str) -> Outcome:
        """Trivy on an image, without and with ``--vex``."""
        options = ("--image-src", "remote", *_platform(target))
        return self._trivy_outcome("image", self.references[target], options, vex)

    def trivy_sbom(self, file: Path, *vex: str) -> Outcome:
        """Trivy on an SBOM, without and with ``--vex``."""
        return self._trivy_outcome("sbom", str(file), (), vex)

    def _trivy_outcome(
        self, kind: str, target: str, options: tuple[str, ...], vex: tuple[str, ...]
    ) -> Outcome:
        key = ("trivy", kind, target, *options)
        if key not in self._before:
            self._before[key] = trivy_findings(self.trivy.scan(kind, target, *options))
        given = [part for source in vex for part in ("--vex", source)]
        after = trivy_findings(self.trivy.scan(kind, target, *options, *given))
        return self._outcome(self._before[key], after)

    def grype_outcome(self, target: str, vex: Path, *options: str) -> Outcome:
        """Grype on an image, without and with ``--vex``."""
        key = ("grype", *_platform(target), *options)  # else all have the same findings
        options = (f"registry:{self.references[target]}", *_platform(target), *options)
        if key not in self._before:
            self._before[key] = self.grype_findings(*options)
        return self._outcome(self._before[key], self.grype_findings(*options, "--vex", str(vex)))

    def attach(self, signer: Signer, document: bytes) -> None:
        """Signs the document and attaches it to the image, by platform and index digest."""
        bundle = bundle_bytes(sign(document, self.image, signer))
        with RegistryClient(self.repository, DockerConfig({})) as client:
            attach(client, self.image.manifest_digests, bundle)

    def _write_files(self) -> dict[str, Path]:
        """The document in every format, and the SBOMs that a format refers to."""
        by_trivy = self.trivy.run(
            "image", self.references["tag"], "--image-src", "remote", "--format", "cyclonedx",
            "--skip-db-update", "--skip-java-db-update", "--offline-scan",
        ).stdout.encode()  # fmt: skip
        by_syft = self.cyclonedx_sbom.read_bytes()
        contents = {
            "openvex": self.document,
            "openvex native": self.trusting,
            "csaf": csaf.render(self.document, self.image),
            "own sbom": cyclonedx.render(self.document, self.image),
            "linked to own": cyclonedx.render_linked(self.document, self.image),
            "syft sbom": by_syft,
            "linked to syft": cyclonedx.render_linked(self.document, self.image, by_syft),
            "trivy sbom": by_trivy,
            "linked to trivy": cyclonedx.render_linked(self.document, self.image, by_trivy),
        }
        files = {}
        for name, content in contents.items():
            files[name] = self.folder / f"{name.replace(' ', '-')}.json"
            files[name].write_bytes(content)
        return files

    def _outcome(self, before: Found, after: Found) -> Outcome:
        document, shared = read(self.document), product("app", self.shared)
        expected = {found for found in before if _ruled_out_by(document, found) is not None}
        native = {
            found
            for found in expected
            if (statement := _ruled_out_by(document, found)) is not None
            and any(purl.partition("?")[0] == shared for purl, _ in statement.named)
        }
        return Outcome(before, after, expected, native)

    def _prepare_grype(self, facts: Path) -> dict[str, str]:
        built = sample.build(facts, self.folder / "grype", DATABASE_BUILT_AT)
        sample.install(built, self.folder / "grype-cache", self._grype)
        return {
            **os.environ,
            **sample.environment(self.folder / "grype-cache"),
            "GRYPE_REGISTRY_INSECURE_USE_HTTP": "true",
            "SYFT_REGISTRY_INSECURE_USE_HTTP": "true",
            "SYFT_CHECK_FOR_APP_UPDATE": "false",
            "DOCKER_CONFIG": str(self.folder),
        }

    def _push_index(self, tag: str, platforms: dict[str, Digest]) -> Digest:
        with RegistryClient(self.repository, DockerConfig({})) as client:
            entries = [
                client.manifest(digest).descriptor
                | {"platform": {"os": "linux", "architecture": name}}
                for name, digest in platforms.items()
            ]
            content = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}
            index = Manifest(INDEX_TYPE, json.dumps(content).encode())
            client.put_manifest(index, tag)
        return index.digest

    def _scan_sbom(self, reference: str) -> tuple[bytes, Path]:
        plain, cdx = self.folder / "syft.json", self.folder / "syft.cdx.json"
        self._run(self._syft, f"registry:{reference}", "-o", f"json={plain}",
                  "-o", f"cyclonedx-json={cdx}")  # fmt: skip
        return plain.read_bytes(), cdx

    def written(self, assessment: Assessment, policy: IndexProducts = IndexProducts.SOUND) -> bytes:
        """The document of an assessment of the image."""
        publisher = openvex.Publisher(index_products=policy)
        return openvex.render(assessment, self.image, 1, publisher)

    def _scan(self) -> Scan:
        made = sbom.parse(self.syft_json)
        packages = tuple(
            Package(a.id, a.name, a.version, a.type, a.purl, (f"/{a.id}".encode(),))
            for a in made.artifacts
        )
        report = self._run(self._grype, f"sbom:{self.folder / 'syft.json'}", "-o", "json")
        found = findings.parse(report, {package.id for package in packages})
        tools = {"syft": made.syft_version, "grype": found.grype_version}
        source = RegistryImages(Credentials([]), [], TOOL_TIMEOUT_S, 10_000)
        fetched = asyncio.run(source.fetch(self.image, self.folder))
        return Scan(
            self.image, SCANNED_AT_US, tools, packages, found.findings, manifests=fetched.manifests
        )

    def grype_findings(self, *options: str) -> Found:
        """What Grype finds."""
        report = json.loads(self._run(self._grype, "-o", "json", *options))
        return {
            (match["vulnerability"]["id"], match["artifact"]["name"]) for match in report["matches"]
        }

    def _run(self, *command: str | Path) -> bytes:
        done = subprocess.run(
            command, env=self._environment, capture_output=True, timeout=TOOL_TIMEOUT_S, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr.decode()[-3000:]}"
        return done.stdout


def prepare(
    folder: Path,
    image_cache: Path,
    registry: LocalRegistry,
    trivy_program: str,
    go_program: Path,
    grype: Path,
    syft: Path,
) -> Stage:
    """Builds the image and the databases, and sets the stage.

    Raises:
        MissingPrerequisiteError: this machine cannot build the image.
    """
    stated = write_facts(folder / "facts.json")
    archive = consumer_image.build(image_cache, folder, go_program)
    trivy = Trivy(trivy_program, folder / "trivy", stated, go_program)
    other = consumer_image.build(image_cache, folder, go_program, "2")
    foreign = consumer_image.build(image_cache, folder, go_program, FOREIGN, FOREIGN)
    return Stage(
        folder, archive, other, foreign, registry, trivy, grype, syft, folder / "facts.json"
    )


def use_repository(stage: Stage, url: str) -> None:
    """Makes Trivy take its documents from this VEX repository alone."""
    config = stage.trivy.home / ".trivy/vex/repository.yaml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f"repositories:\n  - name: ours\n    url: {url}\n    enabled: true\n")


def every_status(assessment: Assessment) -> Assessment:
    """The same findings, with every status in turn for each type of package."""
    turns: dict[str, Any] = defaultdict(lambda: itertools.cycle(_CYCLE))
    statements = tuple(
        dataclasses.replace(
            statement,
            verdict=dataclasses.replace(
                statement.verdict, status=next(turns[statement.package.type])
            ),
        )
        for statement in assessment.statements
    )
    return dataclasses.replace(assessment, statements=statements)


def _platform(target: str) -> tuple[str, ...]:
    name = FOREIGN if target.endswith(FOREIGN) else architecture()
    return ("--platform", f"linux/{name}") if target.startswith(SHARED) else ()


def _ruled_out_by(document: Document, found: tuple[str, str]) -> Statement | None:
    vulnerability, package = found
    matching = [
        statement
        for statement in document.statements
        if vulnerability in (statement.vulnerability, *statement.aliases)
        and _same_package(statement, package)
    ]
    assert matching, f"no statement about {found}: the two databases differ"
    (statement,) = matching
    return statement if statement.status in RULES_OUT else None


def _same_package(statement: Statement, name: str) -> bool:
    component = statement.component
    names = {component.name, f"{component.namespace}:{component.name}"}
    names.add(f"{component.namespace}/{component.name}")
    return name.lower() in {one.lower() for one in names}
