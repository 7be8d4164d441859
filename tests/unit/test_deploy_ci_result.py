"""What a CI run says: statements of tests only, warnings, and the reports."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from xml.etree import ElementTree

import jsonschema
import pytest

from services.ci import attest, junit, reports, sarif, summary
from services.ci.errors import PublicationError
from services.ci.gate import parse_gate
from services.ci.options import Options, job_name
from services.ci.reports import Exit
from services.ci.trial import Plan, Where
from services.publish.attestor import Attestor
from tests.support.schemastore import stored_schema
from tests.unit.factories import CONFIG, MANIFEST, SECOND, batch, package, scan
from vexstream.assessment import Status
from vexstream.evidence import Batch
from vexstream.identity import Image, Workload
from vexstream.scan import Finding
from vexstream.trial import Outcome, Result, conclude

_CI = Workload("ci", "unit", "unit")
_PACKAGES = [
    package("used", b"/usr/lib/used.so"),
    package("idle", b"/usr/lib/idle.so", b"/usr/bin/idle"),
    package("single", b"/usr/lib/single.so"),
    package("blind", unobservable="no list of files"),
]
_SCAN = scan(
    _PACKAGES,
    [
        Finding("CVE-2024-1", "used", severity="critical", fixed_in=("1.1",), fix_state="fixed"),
        Finding("CVE-2024-2", "idle", severity="high"),
        Finding("CVE-2024-3", "single", severity="low"),
        Finding("CVE-2024-4", "blind", severity="medium"),
    ],
)
_PASSED = Outcome("c1", 0, b"", 2 * SECOND)
_PLAN = Plan((), Where.CONTAINER, {}, None, 60)


def _batches(lost: int = 0) -> list[Batch]:
    return [
        batch(0, 2, [b"/usr/lib/started.so"], workload=_CI),
        batch(2, 5, [b"/usr/lib/used.so"], workload=_CI, sequence=1, lost=lost),
    ]


def _result(
    outcome: Outcome = _PASSED, *, lost: int = 0, percent: float = 10, rule_out: bool = True
) -> Result:
    known_as = Image(CONFIG, (MANIFEST,), ("shop:1",))
    return conclude(_SCAN, _batches(lost), known_as, outcome, "unit", percent, rule_out=rule_out)


def _statuses(result: Result) -> dict[str, Status]:
    return {s.package.name: s.verdict.status for s in result.assessment.statements}


def test_a_run_rules_nothing_out_unless_somebody_vouches_for_its_tests() -> None:
    result = _result(rule_out=False)
    assert _statuses(result) == {
        "used": Status.AFFECTED,
        "idle": Status.UNDER_INVESTIGATION,
        "single": Status.UNDER_INVESTIGATION,
        "blind": Status.UNDER_INVESTIGATION,
    }
    reasons = {s.package.name: s.verdict.reason for s in result.assessment.statements}
    assert reasons["idle"] == reasons["single"] == "tests_only"
    assert reasons["blind"] == "unobservable_package"


def test_a_run_that_passed_and_is_vouched_for_rules_out_what_it_did_not_use() -> None:
    result = _result()
    assert _statuses(result) == {
        "used": Status.AFFECTED,
        "idle": Status.NOT_AFFECTED,
        "single": Status.NOT_AFFECTED,
        "blind": Status.UNDER_INVESTIGATION,
    }
    assert result.warnings == ()


def test_a_statement_says_that_it_rests_on_tests_only() -> None:
    texts = {s.package.name: s.verdict.text for s in _result().assessment.statements}
    for name, begins in (("idle", "None of its 2 files was used"), ("single", "Its only file was")):
        assert texts[name].startswith(begins)
        assert "evidence of these tests only" in texts[name]
        assert "job unit" in texts[name]
        assert "1 of 3 packages" in texts[name]
        assert "for 5 s" in texts[name]
    assert texts["single"].startswith("Its only file was not used")


@pytest.mark.parametrize("exit_code", [1, None])
def test_tests_that_did_not_pass_rule_nothing_out(exit_code: int | None) -> None:
    result = _result(replace(_PASSED, exit_code=exit_code))
    assert Status.NOT_AFFECTED not in _statuses(result).values()
    assert _statuses(result)["used"] is Status.AFFECTED
    assert "nothing is ruled out" in result.warnings[0]


def test_a_loss_rules_nothing_out() -> None:
    result = _result(lost=3)
    assert Status.NOT_AFFECTED not in _statuses(result).values()
    assert any("3 events were lost" in warning for warning in result.warnings)


def test_a_gap_rules_nothing_out() -> None:
    gap = [batch(0, 2, workload=_CI), batch(3, 5, workload=_CI, sequence=1)]
    result = conclude(_SCAN, gap, Image(CONFIG), _PASSED, "unit", 0, rule_out=True)
    assert Status.NOT_AFFECTED not in _statuses(result).values()


def test_a_container_that_was_there_first_rules_nothing_out() -> None:
    late = [batch(1, 5, workload=_CI)]
    result = conclude(_SCAN, late, Image(CONFIG), _PASSED, "unit", 0, rule_out=True)
    assert Status.NOT_AFFECTED not in _statuses(result).values()


def test_little_use_is_warned_of() -> None:
    assert not _result(percent=33).warnings
    [warning] = _result(percent=34).warnings
    assert "used little of the image: 1 of 3 packages" in warning


def test_tests_that_reach_nothing_are_warned_of() -> None:
    idle = [batch(0, 2, [b"/usr/lib/used.so"], workload=_CI), batch(2, 5, workload=_CI)]
    result = conclude(_SCAN, idle, Image(CONFIG), _PASSED, "unit", 0, rule_out=True)
    assert result.figures.files_used_by_tests == 0
    assert any("may not have reached it" in warning for warning in result.warnings)
    assert Status.NOT_AFFECTED not in _statuses(result).values()


def test_tests_that_are_the_whole_run_are_not_told_from_its_start() -> None:
    result = _result(replace(_PASSED, begun_at_us=None))
    assert result.figures.files_used_by_tests is None


def test_sarif_is_valid_and_leaves_out_what_was_ruled_out() -> None:
    log = json.loads(sarif.render(_result()))
    jsonschema.validate(log, _sarif_schema())
    [run] = log["runs"]
    assert [r["ruleId"] for r in run["results"]] == ["CVE-2024-1", "CVE-2024-4"]
    used, blind = run["results"]
    assert used["level"] == "error"
    assert used["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "usr/lib/used.so"
    assert (blind["kind"], blind["level"]) == ("review", "none")
    rules = run["tool"]["driver"]["rules"]
    # What GitHub requires of a rule beyond the schema.
    assert all(r[part]["text"] for r in rules for part in ("fullDescription", "help"))
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in run["results"])
    assert run["properties"]["counts"]["not_affected"] == 2


def test_the_sarif_schema_of_the_tests_can_refuse() -> None:
    log = json.loads(sarif.render(_result()))
    log["runs"][0]["results"][0]["level"] = "fatal"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(log, _sarif_schema())


def test_junit_fails_what_violates_and_skips_what_is_open() -> None:
    result = _result()
    violations = parse_gate("affected:critical").violations(result.assessment.statements)
    root = ElementTree.fromstring(junit.render(result, violations))
    cases = {case.get("name"): [child.tag for child in case] for case in root.iter("testcase")}
    assert cases == {
        "CVE-2024-1 used 1.0": ["failure"],
        "CVE-2024-2 idle 1.0": [],
        "CVE-2024-3 single 1.0": [],
        "CVE-2024-4 blind 1.0": ["skipped"],
    }
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "1", "1")


def test_junit_survives_names_that_xml_cannot_hold() -> None:
    hostile = replace(_PACKAGES[0], name="a\x00<b>\ud800")
    found = conclude(
        replace(_SCAN, packages=(hostile, *_PACKAGES[1:])), _batches(), Image(CONFIG), _PASSED,
        "unit", 0,
    )  # fmt: skip
    ElementTree.fromstring(junit.render(found, ()))


def test_the_summary_tells_the_policy_and_the_figures() -> None:
    result, gate = _result(), parse_gate("affected:critical")
    text = summary.render(result, gate, gate.violations(result.assessment.statements))
    assert "1 statements violate `--fail-on affected:critical`" in text
    assert "| Packages used | 1 of 3 (33 %) |" in text
    assert "CVE-2024-1" in text


@pytest.mark.parametrize(
    ("exit_code", "fail_on", "status"),
    [
        (0, "", Exit.NOT_PUBLISHED),
        (0, "affected", Exit.POLICY_VIOLATED),
        (7, "", Exit.TESTS_FAILED),
    ],
)
@pytest.mark.parametrize("step", ["sign", "push"])
def test_all_reports_say_that_the_document_was_not_published_and_agree_with_the_exit_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str,
    exit_code: int, fail_on: str, status: Exit,
) -> None:  # fmt: skip
    def refuse(*_: object) -> bytes:
        raise PublicationError("the registry says <no>")

    monkeypatch.setattr(attest, "sign", lambda *_: b"bundle")
    monkeypatch.setattr(attest, step, refuse)
    options = Options("shop:1", _PLAN, parse_gate(fail_on), tmp_path, attach_to="r/shop:1")
    said: list[str] = []
    result = _result(replace(_PASSED, exit_code=exit_code))
    assert reports.write(options, result, cast(Attestor, object()), said.append) is status
    facts = json.loads((tmp_path / "result.json").read_text())
    assert facts["outcome"] == status.name.lower()
    assert facts["not_published"] == "the registry says <no>"
    root = ElementTree.parse(tmp_path / "junit.xml").getroot()
    errors = {
        case.get("name"): error.get("message")
        for case in root.iter("testcase")
        for error in case.iter("error")
    }
    tests = {"tests": "exit status 7"} if exit_code else {}
    assert errors == {**tests, "publication": "the registry says <no>"}
    assert root.get("errors") == str(len(errors))
    text = (tmp_path / "summary.md").read_text()
    assert r"could not be published:** the registry says \<no\>" in text
    assert said[-1] == "not published: the registry says <no>"
    assert (tmp_path / "openvex.json").exists()


def test_a_document_that_was_published_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attest, "sign", lambda *_: b"bundle")
    monkeypatch.setattr(attest, "push", lambda *_: None)
    options = Options("shop:1", _PLAN, parse_gate(""), tmp_path, attach_to="r/shop:1")
    status = reports.write(options, _result(), cast(Attestor, object()), lambda _: None)
    facts = json.loads((tmp_path / "result.json").read_text())
    assert (status, facts["outcome"], facts["not_published"]) == (Exit.PASSED, "passed", None)
    assert ElementTree.parse(tmp_path / "junit.xml").getroot().get("errors") == "0"
    assert "published" not in (tmp_path / "summary.md").read_text()


def test_names_from_the_image_are_no_markup() -> None:
    hostile = replace(_PACKAGES[0], name="a | [x](http://y) <img>\n## b")
    found = conclude(
        replace(_SCAN, packages=(hostile, *_PACKAGES[1:])), _batches(), Image(CONFIG), _PASSED,
        "unit", 0,
    )  # fmt: skip
    text = summary.render(found, parse_gate(""), ())
    assert r"a \| \[x\](http://y) \<img\> \#\# b 1.0" in text
    assert "<img>" not in text


@pytest.mark.parametrize(
    ("given", "name"),
    [("Unit Tests (3.11)", "unit-tests-3-11"), ("///", "tests"), ("a" * 80, "a" * 63)],
)
def test_a_job_gets_a_name_that_a_pod_can_have(given: str, name: str) -> None:
    assert job_name(given) == name


def _sarif_schema() -> dict[str, Any]:
    return stored_schema(b"(SARIF) Version 2.1.0 JSON Schema")
