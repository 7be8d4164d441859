"""Assessments for the tests of document formats: some by hand, any by hypothesis."""

import dataclasses

from hypothesis import strategies as st

from tests.unit.factories import CONFIG, IMAGE, INDEX, MANIFEST, package, scan
from vexstream.assessment import Assessment, Status, assess
from vexstream.identity import Image
from vexstream.openvex import Publisher, render
from vexstream.scan import Finding, Package, Scan
from vexstream.usage import FileIndex

TWO_DIGESTS = Image(CONFIG, (MANIFEST, INDEX), ("registry.example/acme/Web:1", "localhost/web"))

_PURLS = (
    "pkg:deb/debian/{name}@{version}?arch=amd64&distro=debian-12&upstream=source",
    "pkg:deb/debian/{name}@1%3A{version}?arch=amd64&distro=debian-12",
    "pkg:rpm/fedora/{name}@{version}?arch=x86_64&epoch=1&upstream=x.src.rpm",
    "pkg:apk/alpine/{name}@{version}?arch=x86_64&distro=alpine-3.19.1",
    "pkg:pypi/{name}@{version}",
    "pkg:npm/%40scope/{name}@{version}",
    "pkg:maven/org.example/{name}@{version}",
    "pkg:golang/example.org/{name}@v{version}",
    "pkg:golang/stdlib@{version}",
)


def with_statuses(assessment: Assessment, statuses: list[Status]) -> Assessment:
    """The same statements with these statuses in turn."""
    statements = tuple(
        dataclasses.replace(
            statement,
            verdict=dataclasses.replace(statement.verdict, status=statuses[number % len(statuses)]),
        )
        for number, statement in enumerate(assessment.statements)
    )
    return dataclasses.replace(assessment, statements=statements)


def document(assessment: Assessment, image: Image = IMAGE, version: int = 1) -> bytes:
    """The OpenVEX document of an assessment."""
    return render(assessment, image, version, Publisher())


def assessment_of(found: Scan, statuses: list[Status]) -> Assessment:
    """A scan's findings with these statuses in turn, ordered by vulnerability and package."""
    return with_statuses(assess(found, FileIndex(found), None, 1), statuses)


def shared_vulnerability(*statuses: Status) -> bytes:
    """One vulnerability in packages a, b, ... with these statuses."""
    names = "abcdefgh"[: len(statuses)]
    packages = [package(name, f"/usr/bin/{name}".encode()) for name in names]
    findings = [Finding("CVE-2024-1000", name, fixed_in=("2",)) for name in names]
    return document(assessment_of(scan(packages, findings), list(statuses)))


@st.composite
def _packages(draw: st.DrawFn) -> Package:
    name = draw(st.text("abcdefghij.-+_", min_size=1, max_size=8).filter(lambda n: n[0].isalpha()))
    version = draw(st.sampled_from(["1.0", "2.36-9%2Bdeb12u4", "0~rc1", "1.27.3"]))
    purl = draw(st.sampled_from(_PURLS)).format(name=name, version=version)
    identifier = draw(st.uuids()).hex
    return Package(identifier, name, version, "deb", purl, (b"/usr/bin/x",))


@st.composite
def assessments(draw: st.DrawFn) -> Assessment:
    """Any findings with any statuses."""
    packages = draw(st.lists(_packages(), min_size=1, max_size=6, unique_by=lambda p: p.id))
    vulnerabilities = st.sampled_from(
        [("CVE-2024-1000", ()), ("CVE-2024-99999", ("GHSA-aaaa-bbbb-cccc",)),
         ("GHSA-dddd-eeee-ffff", ()), ("GHSA-gggg-hhhh-jjjj", ("CVE-2024-2000",)),
         ("GHSA-kkkk", ("CVE-2024-3000", "CVE-2024-4000")), ("TEMP-0841856-B18BAF", ())]
    )  # fmt: skip
    findings = [
        Finding(
            name,
            draw(st.sampled_from(packages)).id,
            aliases=aliases,
            fix_state=draw(st.sampled_from(["fixed", "wont-fix", "not-fixed", "unknown"])),
            fixed_in=draw(st.sampled_from([(), ("1.1",), ("2", "3")])),
        )
        for name, aliases in draw(st.lists(vulnerabilities, min_size=1, max_size=8))
    ]
    unique = {(finding.vulnerability, finding.package_id): finding for finding in findings}
    statuses = draw(st.lists(st.sampled_from(list(Status)), min_size=1, max_size=5))
    return assessment_of(scan(packages, unique.values()), statuses)
