"""``--fail-on``: its grammar, its errors, and what it takes."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ci.gate import SEVERITIES, BadPolicyError, parse_gate
from tests.unit.factories import package
from vexstream.assessment import Reason, Statement, Status, Verdict

_AFFECTED = Statement(
    vulnerability="CVE-2024-1",
    aliases=(),
    package=package("zlib", b"/usr/lib/libz.so.1"),
    subcomponents=("pkg:deb/debian/zlib@1.0",),
    verdict=Verdict(Status.AFFECTED, Reason.USED, "used", 1),
    severity="high",
    fixed_in=(),
    fix_state="unknown",
)
_OPEN = replace(_AFFECTED, verdict=Verdict(Status.UNDER_INVESTIGATION, Reason.LEARNING, "open", 1))
_RULED_OUT = replace(_AFFECTED, verdict=Verdict(Status.NOT_AFFECTED, Reason.NOT_USED, "no", 1))


@pytest.mark.parametrize(
    ("policy", "fails"),
    [
        ("", False),
        ("affected", True),
        ("affected:critical", False),
        ("affected:high", True),
        ("affected:low", True),
        ("under_investigation", False),
        ("under_investigation:low, affected:high", True),
    ],
)
def test_a_clause_takes_its_status_from_its_severity_up(policy: str, fails: bool) -> None:
    assert bool(parse_gate(policy).violations([_AFFECTED])) is fails


def test_a_severity_that_nobody_knows_is_taken_by_the_bare_status_alone() -> None:
    unknown = replace(_AFFECTED, severity="unknown")
    assert parse_gate("affected").violations([unknown])
    assert not parse_gate("affected:negligible").violations([unknown])


def test_what_was_ruled_out_never_fails_a_build() -> None:
    assert not parse_gate("affected,under_investigation").violations([_RULED_OUT])


def test_statements_that_are_open_fail_only_when_asked() -> None:
    assert not parse_gate("affected").violations([_OPEN])
    assert parse_gate("affected,under_investigation:high").violations([_OPEN]) == (_OPEN,)


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        ("critical", "affected, under_investigation"),
        ("not_affected", "affected, under_investigation"),
        ("affected:", "critical, high"),
        ("affected:severe", "critical, high"),
        ("affected:high:fixable", "critical, high"),
        ("affected,,", "affected, under_investigation"),
        ("Affected", "affected, under_investigation"),
    ],
)
def test_what_is_no_policy_is_refused_with_what_it_may_be(policy: str, names: str) -> None:
    with pytest.raises(BadPolicyError, match=names):
        parse_gate(policy)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["affected", "under_investigation"]),
            st.sampled_from([None, *SEVERITIES]),
        ),
        unique=True,
    )
)
def test_a_policy_is_written_as_it_is_read(clauses: list[tuple[str, str | None]]) -> None:
    text = ",".join(f"{status}:{severity}" if severity else status for status, severity in clauses)
    assert str(parse_gate(text)) == (text or "nothing")
