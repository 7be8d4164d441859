"""What makes a document valid, for every document that a test produces.

``vexstream.openvex.render`` and ``vexstream.merge`` are wrapped here before any test imports them:
each document that is made in the test process is checked, and so are the formats made of it. Other
Python processes that a test starts keep what they make (``children/sitecustomize.py``), and the
test in whose time they did fails when it is not valid. Only what is made inside containers is
handed to ``check_once`` by who reads it. The rules for OpenVEX are those of the specification,
with its JSON Schema, and go-vex's stricter ones, and what Trivy and Grype need; beside them stands
an independent implementation. CSAF is checked with the OASIS schema and the mandatory tests of its
specification, CycloneDX with its schema, both out of packages of others.
"""

import functools
import hashlib
import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from vexipy.document import Document

from vexstream import csaf, cyclonedx, merge, openvex
from vexstream.assessment import Assessment
from vexstream.document_ids import base_and_digest
from vexstream.identity import Image
from vexstream.openvex import Publisher

_ROOT = logging.getLogger()
_LOGGING = _ROOT.level, _ROOT.handlers[:]
from csaf.csaf.v20 import validate as validate_csaf  # noqa: E402 - it sets up logging for all

_ROOT.setLevel(_LOGGING[0])
_ROOT.handlers[:] = _LOGGING[1]

_OPENVEX_SCHEMA = Path(__file__).parents[1] / "data/openvex-schema/openvex_json_schema_0.2.0.json"
MAX_BYTES_IN_ALL_FORMATS = 100_000
"""Larger documents are checked as OpenVEX alone: the schemas' validators are slow."""

_STATUSES = {"not_affected", "affected", "fixed", "under_investigation"}
_JUSTIFICATIONS = {
    "component_not_present",
    "vulnerable_code_not_present",
    "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary",
    "inline_mitigations_already_exist",
}
_PRODUCT = re.compile(r"pkg:oci/[a-z0-9._%-]+@sha256%3A[0-9a-f]{64}(\?arch=[a-z0-9]+)?")
_PURL = re.compile(r"pkg:[a-z0-9.+-]+/\S+")
_ALLOWED_FIELDS = {
    "not_affected": {"justification", "impact_statement"},
    "affected": {"action_statement"},
    "fixed": set(),
    "under_investigation": set(),
}


def check_all(document: bytes, image: Image) -> None:
    """Every format of a document."""
    check_openvex(document)
    check_csaf(csaf.render(document, image))
    check_cyclonedx(cyclonedx.render(document, image))
    check_cyclonedx(cyclonedx.render_linked(document, image))


def check_openvex(document: bytes) -> None:
    """The specification, go-vex, and what the consumers need."""
    whole = json.loads(document)
    assert whole["@context"] == "https://openvex.dev/ns/v0.2.0"
    assert re.fullmatch(r"https?://\S+", whole["@id"])
    assert whole["author"]
    assert isinstance(whole["version"], int)
    assert whole["version"] >= 1
    _check_instant(whole["timestamp"])
    _check_instant(whole["last_updated"])
    assert whole["statements"]
    said: set[tuple[str, str, str]] = set()
    for statement in whole["statements"]:
        _check_statement(statement)
        for name in _names(statement):
            for product in statement["products"]:
                for component in product["subcomponents"]:
                    key = (name, product["@id"], component["@id"])
                    assert key not in said, f"two statements about {key}"
                    said.add(key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of justifications that a person did not give
        Document.from_json(document.decode())
    _openvex_schema().validate(whole)


def check_csaf(document: bytes) -> None:
    """The JSON Schema and the mandatory tests of CSAF 2.0, and the profile csaf_vex."""
    whole = json.loads(document)
    assert whole["document"]["category"] == "csaf_vex"
    report = validate_csaf(whole, preset="mandatory")
    failed = [result for result in report.results if not result.passed and not result.skipped]
    assert not failed, failed
    assert any(result.id == "schema" for result in report.results)


def check_cyclonedx(document: bytes) -> None:
    """The JSON Schema of CycloneDX 1.6, in which no unknown field is allowed."""
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode())
    assert error is None, error
    whole = json.loads(document)
    references = [c["bom-ref"] for c in whole.get("components", ())]
    assert len(references) == len(set(references))


def _check_statement(statement: dict[str, Any]) -> None:
    status = statement["status"]
    assert status in _STATUSES
    _check_instant(statement["timestamp"])
    assert statement["vulnerability"]["name"]
    present = {"justification", "impact_statement", "action_statement"} & statement.keys()
    assert present <= _ALLOWED_FIELDS[status], f"{status} with {present}"
    if status == "not_affected":
        assert present
        assert statement.get("justification", "component_not_present") in _JUSTIFICATIONS
        assert all(
            component["@id"].startswith("pkg:") and not component["@id"].startswith("pkg:generic/")
            for product in statement["products"]
            for component in product["subcomponents"]
        )
    if status == "affected":
        assert statement.get("action_statement")
    assert statement["products"]
    for product in statement["products"]:
        assert _PRODUCT.fullmatch(product["@id"]), product["@id"]
        assert product["subcomponents"], "such a statement would hide it in every package"
        for component in product["subcomponents"]:
            assert _PURL.fullmatch(component["@id"]), component["@id"]
            qualifiers = component["@id"].partition("?")[2]
            assert re.fullmatch(r"(arch=[a-z0-9_]+)?&?(epoch=[^&]*)?", qualifiers), component["@id"]


def _names(statement: dict[str, Any]) -> set[str]:
    vulnerability = statement["vulnerability"]
    return {vulnerability["name"], *vulnerability.get("aliases", ())}


def _check_instant(text: str) -> None:
    assert datetime.fromisoformat(text).tzinfo is not None


@lru_cache
def _openvex_schema() -> Any:
    # The library compares each item with each other: minutes for thousands of statements.
    base = jsonschema.Draft202012Validator
    validator = jsonschema.validators.extend(base, {"uniqueItems": _unique_items})
    return validator(json.loads(_OPENVEX_SCHEMA.read_bytes()))


def _unique_items(_: Any, wanted: bool, items: Any, __: Any) -> Iterator[Any]:
    if wanted and isinstance(items, list):
        texts = {json.dumps(item, sort_keys=True) for item in items}
        if len(texts) < len(items):
            yield jsonschema.ValidationError("an item is there twice")


def check_once(document: bytes, image: Image | None = None) -> None:
    """Every format of a document that was made here or came from a service, if it is a new one.

    Without an image it is the one that the document's id names.
    """
    seal = hashlib.sha256(document).digest()
    if seal in _SEEN:
        return
    if len(document) <= MAX_BYTES_IN_ALL_FORMATS:
        check_all(document, image or Image(base_and_digest(json.loads(document)["@id"])[1]))
    else:
        check_openvex(document)
    _SEEN.add(seal)


_SEEN: set[bytes] = set()


def _checked(
    render: Callable[[Assessment, Image, int, Publisher], bytes],
) -> Callable[[Assessment, Image, int, Publisher], bytes]:
    def checked(assessment: Assessment, image: Image, version: int, publisher: Publisher) -> bytes:
        document = render(assessment, image, version, publisher)
        check_once(document, image)
        return document

    return checked


def _checked_merge(
    merged: Callable[[Sequence[Mapping[str, Any]]], bytes],
) -> Callable[[Sequence[Mapping[str, Any]]], bytes]:
    @functools.wraps(merged)
    def checked(documents: Sequence[Mapping[str, Any]]) -> bytes:
        document = merged(documents)
        check_openvex(document)  # nobody makes other formats of it
        return document

    return checked


openvex.render = _checked(openvex.render)  # type: ignore[assignment]
merge.merge_documents = _checked_merge(merge.merge_documents)  # type: ignore[assignment]


def check_kept(folder: Path) -> None:
    """What other processes made since the last time."""
    for path in sorted(folder.iterdir()):
        if path.suffix == ".render":
            check_once(path.read_bytes())
        elif path.suffix == ".merge_documents":
            check_openvex(path.read_bytes())
        else:
            continue  # it is being written
        path.unlink()


@pytest.fixture(autouse=True)
def _documents_of_other_processes() -> Iterator[None]:
    yield
    check_kept(Path(_KEPT.name))


_KEPT = tempfile.TemporaryDirectory(prefix="vexstream-documents-")
os.environ["VEXSTREAM_TEST_DOCUMENTS"] = _KEPT.name
os.environ["PYTHONPATH"] = os.pathsep.join(
    filter(None, [str(Path(__file__).with_name("children")), os.environ.get("PYTHONPATH")])
)
