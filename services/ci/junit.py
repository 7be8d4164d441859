"""JUnit XML out of a CI result: a test case for each statement, and for what else went wrong."""

import re
from collections.abc import Collection
from xml.etree import ElementTree

from vexstream.assessment import Statement, Status
from vexstream.trial import Result

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(
    result: Result, violations: Collection[Statement], unpublished: str | None = None
) -> bytes:
    """The report. A violation of the policy is a failure, what is still open is skipped; tests that
    did not pass and a document that could not be signed or attached are errors."""
    statements = result.assessment.statements
    failed = set(violations)
    skipped = [s for s in statements if _is_open(s) and s not in failed]
    errors = _errors(result, unpublished)
    counts = {
        "tests": str(len(statements) + len(errors)),
        "failures": str(len(failed)),
        "skipped": str(len(skipped)),
        "errors": str(len(errors)),
    }
    root = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(
        root, "testsuite", {"name": _text(f"vexstream {result.job}"), **counts}
    )
    for name, why in errors.items():
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": "vexstream", "name": name, "time": "0"}
        )
        ElementTree.SubElement(case, "error", {"message": _text(why)})
    for statement in statements:
        package = statement.package
        case = ElementTree.SubElement(
            suite,
            "testcase",
            {
                "classname": _text(f"{package.type}.{package.name}"),
                "name": _text(f"{statement.vulnerability} {package.name} {package.version}"),
                "time": "0",
            },
        )
        if statement in failed:
            message = f"{statement.verdict.status}, {statement.severity}"
            failure = ElementTree.SubElement(case, "failure", {"message": message})
            failure.text = _text(statement.verdict.text)
        elif _is_open(statement):
            ElementTree.SubElement(case, "skipped", {"message": _text(statement.verdict.text)})
    ElementTree.indent(root)
    report: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return report


def _errors(result: Result, unpublished: str | None) -> dict[str, str]:
    """What is no matter of a statement -> why."""
    code = result.outcome.exit_code
    errors = {}
    if not result.outcome.passed:
        errors["tests"] = "they took too long" if code is None else f"exit status {code}"
    if unpublished is not None:
        errors["publication"] = unpublished
    return errors


def _is_open(statement: Statement) -> bool:
    return statement.verdict.status is Status.UNDER_INVESTIGATION


def _text(text: str) -> str:
    """Names in an image may hold characters that no XML may."""
    return _NOT_XML.sub("\ufffd", text)
