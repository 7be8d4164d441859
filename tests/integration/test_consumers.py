"""Real Trivy and real Grype take our documents: what is ruled out they leave out, and no other.

The image has deb, Python, npm, Java and Go packages. benchmarks/consumers writes the table in
docs/consumers.md out of the same cases.
"""

import asyncio
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from services.api.app import create_app
from services.common.settings import CommonSettings
from services.local.process import MissingPrerequisiteError
from services.publish.signing import LocalSigner
from tests.support.api import api_under_test, document
from tests.support.consumer_cases import FILE_CASES, OCI_CASES, REPOSITORY_CASES, Case, Promise
from tests.support.consumers import (
    FOREIGN,
    SCANNED_AT_US,
    SHARED,
    Stage,
    prepare,
    use_repository,
)
from tests.support.registry import LocalRegistry
from tests.support.streams import ROOT
from tests.support.validity import check_all
from vexstream.assessment import assess
from vexstream.decision_log import Decisions
from vexstream.decisions import EVERY, Decision, DecisionSource
from vexstream.openvex_reader import read
from vexstream.status import Status
from vexstream.usage import FileIndex

pytestmark = pytest.mark.real

ECOSYSTEMS = {"deb", "pypi", "npm", "maven", "golang"}


@pytest.fixture(scope="module")
def stage(
    image_cache: Path,
    registry: LocalRegistry,
    trivy_program: str,
    go_program: Path,
    grype: Path,
    syft: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Stage:
    """The image in the registry, and the document about it."""
    folder = tmp_path_factory.mktemp("consumers")
    try:
        return prepare(folder, image_cache, registry, trivy_program, go_program, grype, syft)
    except MissingPrerequisiteError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def attached(stage: Stage) -> Stage:
    """The same, with the signed document attached to the image."""
    stage.attach(LocalSigner(ec.generate_private_key(ec.SECP256R1())), stage.document)
    return stage


def test_the_document_has_every_status_in_every_ecosystem_and_is_valid(stage: Stage) -> None:
    check_all(stage.document, stage.image)
    statements = read(stage.document).statements
    seen = {(s.component.kind, s.status) for s in statements}
    assert {kind for kind, _ in seen} == ECOSYSTEMS
    assert all((kind, "not_affected") in seen and (kind, "affected") in seen for kind in ECOSYSTEMS)
    assert {status for _, status in seen} == {
        "not_affected", "affected", "fixed", "under_investigation",
    }  # fmt: skip
    assert any("?epoch=" in spelling for s in statements for spelling in s.component.spellings)


@pytest.mark.parametrize("case", FILE_CASES, ids=str)
def test_a_file_rules_out_what_it_promises(stage: Stage, case: Case) -> None:
    _check(stage, case)


def test_the_policy_native_hides_what_another_image_of_the_index_holds(stage: Stage) -> None:
    """Why it is not the default: the arm64 image has libraries of amd64, as a cross compiler's."""
    target, vex = f"{SHARED[0]}, {FOREIGN}", stage.files["openvex native"]
    for outcome in (stage.trivy_image(target, str(vex)), stage.grype_outcome(target, vex)):
        assert outcome.suppressed < outcome.native


def test_a_decision_about_one_name_hides_nothing_that_shares_another_name_with_it(
    stage: Stage, tmp_path: Path
) -> None:
    advisory = next(f for f in stage.scan.findings if f.vulnerability.startswith("GHSA-"))
    package = next(p for p in stage.scan.packages if p.id == advisory.package_id)
    # The advisory is about several; one of them is ruled out, and goes by its name as well.
    findings = (
        replace(advisory, aliases=("CVE-2099-0001", "CVE-2099-0002")),
        replace(advisory, vulnerability="CVE-2099-0001", aliases=(advisory.vulnerability,)),
    )
    scan = replace(stage.scan, findings=findings)
    decision = Decision(
        EVERY, "CVE-2099-0001", package.purl, Status.NOT_AFFECTED, "no parser", "me",
        DecisionSource.HUMAN, SCANNED_AT_US + 1,
    )  # fmt: skip
    decided = assess(scan, FileIndex(scan), None, 1, Decisions([decision]))
    vex = tmp_path / "decided.json"
    vex.write_bytes(stage.written(decided))
    found = stage.grype_findings(f"registry:{stage.references['tag']}", "--vex", str(vex))
    assert (advisory.vulnerability, package.name) in found


@pytest.mark.parametrize("case", OCI_CASES, ids=str)
def test_an_attestation_in_the_registry_rules_out_the_same(attached: Stage, case: Case) -> None:
    _check(attached, case)


async def test_the_vex_repository_of_the_api_rules_out_the_same(
    stage: Stage, kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        record = document(
            "consumers",
            image=stage.image,
            body=stage.document,
            sha256=hashlib.sha256(stage.document).hexdigest(),
        )
        await api.publish(record)
        app = create_app(api.settings)
        async with app.router.lifespan_context(app), api.listening(app) as url:
            state = app.state.vexstream
            state.settings = state.settings.model_copy(update={"public_url": url})
            await api.settled()
            use_repository(stage, url)
            for case in REPOSITORY_CASES:
                await asyncio.to_thread(_check, stage, case)


def _check(stage: Stage, case: Case) -> None:
    outcome = case.run(stage)
    wrong = sorted(outcome.suppressed - outcome.expected)
    missed = sorted(outcome.expected - outcome.suppressed)
    assert not wrong, f"{case} rules out what is open: {wrong}"
    assert case.promise.holds(outcome), (
        f"{case}: {case.promise.value}; not so: {json.dumps(missed)}"
    )


def test_the_table_in_the_documentation_is_of_these_cases() -> None:
    lines = (ROOT / "docs/consumers.md").read_text("utf-8").splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in lines if " | " in line
    ]
    said = {
        tuple(row[:3]): [int(cell) for cell in row[3:]]
        for row in rows
        if len(row) == 7 and row[3].isdigit()
    }
    cases = [*FILE_CASES, *OCI_CASES, *REPOSITORY_CASES]
    for case in cases:
        before, expected, right, wrong = said[case.consumer, case.form, case.target]
        assert wrong == 0
        assert (right == expected) == (case.promise is Promise.EXACT)
        assert (right == 0) == (case.promise is Promise.NOTHING)
        assert expected < before
    assert len(said) == len(cases), "a line of the table is of no case"
