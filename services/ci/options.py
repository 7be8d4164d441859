"""What the command line of ``vexstream ci`` says."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from services.ci.gate import Gate
from services.ci.trial import Plan
from vexstream.openvex import Publisher

_JOB = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Options:
    """Of one run."""

    image: str
    plan: Plan
    gate: Gate
    output: Path
    job: str = "tests"
    products: tuple[str, ...] = ()
    warn_below_percent: float = 10.0
    publisher: Publisher = field(default_factory=Publisher)
    sign: bool = False
    attach_to: str | None = None
    """Image in a registry that the signed document is attached to."""
    rule_out: bool = False
    """The tests are vouched to do all that the image does: what they did not use is ruled out."""


def job_name(text: str) -> str:
    """The job as a name that a pod and an IRI can have."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    return name if _JOB.fullmatch(name) else "tests"
