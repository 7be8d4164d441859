"""What people and vendors say about vulnerabilities: it overrides what observation says.

A decision names a vulnerability, a package and the images for which it holds. Of several that fit
a finding the first counts in this order: a person before a vendor, one image before all images,
one package before all packages, one version before all versions, the newest, the worst status.
A package without purl cannot be named, so no decision fits it.

Of two of a vendor's with the same key one holds, in whatever order they come: that of the document
that was issued last, then of the higher version of it, then the newer statement, the worst status.
Of a person's it is the one that came last.

A new version of a document takes the place of the whole of it: what the older one says and the
newer one does not, holds no longer. So every document has a record of its own beside its
statements, the *edition*, under the vulnerability ``*``. One that is *withdrawn* ends the document
as a whole (withdrawals.py). Which decisions hold: decision_log.py.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import unquote

from vexstream.identity import BadDigestError, Digest, parse_digest
from vexstream.purl import subcomponents
from vexstream.scan import Package
from vexstream.status import BADNESS, RULES_OUT, Status

EVERY = "*"
_POINT_RELEASE = re.compile(r"(distro=debian-\d+)\.\d+")

JUSTIFICATIONS = frozenset(
    {
        "component_not_present",
        "vulnerable_code_not_present",
        "vulnerable_code_not_in_execute_path",
        "vulnerable_code_cannot_be_controlled_by_adversary",
        "inline_mitigations_already_exist",
    }
)
"""OpenVEX justifications; the flags of CSAF have the same names."""

_LONGEST_ID = 2000
_VULNERABILITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")


class DecisionSource(StrEnum):
    """Where a decision comes from, the one that weighs most first."""

    HUMAN = "human"
    OPENVEX = "openvex"
    CSAF = "csaf"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision; schemas/vex-decision.avsc explains every field."""

    scope: str
    vulnerability: str
    package: str
    status: Status
    text: str
    author: str
    source: DecisionSource
    decided_at_us: int
    justification: str | None = None
    source_id: str = ""
    issued_at_us: int = 0
    document_version: str = ""
    withdrawn: bool = False
    # How a document came to us; of its edition alone, and it makes no edition another one.
    statements: int = field(default=0, compare=False, repr=False)
    given_at_us: int = field(default=0, compare=False, repr=False)
    given_by: str = field(default="", compare=False, repr=False)

    @property
    def key(self) -> bytes:
        """Key of the Kafka record: a newer decision of the same kind on the same replaces it."""
        return f"{self.source}|{self.scope}|{self.vulnerability}|{self.package}".encode()

    @property
    def is_edition(self) -> bool:
        """It says no more than that a document was issued in this version."""
        return self.vulnerability == EVERY

    @property
    def edition_key(self) -> bytes:
        """Key of the record that tells the newest version of its document; empty without an id."""
        document = self.package if self.is_edition else document_id(self)
        return f"{self.source}|{EVERY}|{EVERY}|{document}".encode() if document else b""

    def yields_to(self, other: "Decision") -> bool:
        """The other, which has the same key, holds in its place where this one came first."""
        return self.source is DecisionSource.HUMAN or _rank(self) < _rank(other)

    def outlives(self, edition: "Decision") -> bool:
        """It holds beside this edition of its document: it is of it or of a newer one, or it warns
        and not all of the edition was understood (``text`` says what not). Beside a withdrawal
        holds what was not meant by it: of a higher version, or issued later."""
        if edition.withdrawn:
            return self.issued_at_us > edition.issued_at_us or version_order(
                self.document_version
            ) > version_order(edition.document_version)
        newer = version_order(edition.document_version) > version_order(self.document_version)
        replaced = newer and edition.issued_at_us >= self.issued_at_us
        return not replaced or (bool(edition.text) and self.status not in RULES_OUT)


def own_id(decision: Decision) -> str:
    """The id that a vendor's document bears: its ``@id`` (OpenVEX) or its tracking id (CSAF)."""
    return decision.source_id.rpartition(" version ")[0]


def document_id(decision: Decision) -> str:
    """The id of a vendor's document, or nothing; publishers of CSAF number their own."""
    identifier = own_id(decision)
    if decision.source is DecisionSource.HUMAN or not 0 < len(identifier) <= _LONGEST_ID:
        return ""
    if decision.source is DecisionSource.CSAF:
        return f"{decision.author}|{identifier}"
    return identifier


def named_by(key: bytes) -> Decision | None:
    """What the key of a record tells of the decision in it; None when it is no key of one."""
    try:
        source, scope, vulnerability, package = key.decode().split("|", 3)
        status, kind = Status.UNDER_INVESTIGATION, DecisionSource(source)
    except ValueError:
        return None
    named = Decision(scope, vulnerability, package, status, "", "?", kind, decided_at_us=0)
    return named if problem(named) is None else None


def problem(decision: Decision) -> str | None:
    """Why the decision cannot be used; None when it can."""
    if decision.is_edition:
        vendors = decision.source is not DecisionSource.HUMAN and decision.scope == EVERY
        return None if vendors and decision.package else "'*' is no name of a vulnerability"
    if decision.withdrawn:
        return "a document is withdrawn as a whole, and a statement by a record without a value"
    if not _VULNERABILITY.fullmatch(decision.vulnerability):
        return f"{decision.vulnerability[:80]!r} is no name of a vulnerability"
    if not decision.author.strip():
        return "it has no author: say who decides"
    if decision.scope != EVERY:
        try:
            parse_digest(decision.scope)
        except BadDigestError as error:
            return f"scope: {error}, or '*' for every image"
    if decision.package == EVERY:
        if decision.scope == EVERY:
            return "it is for every package of every image: name a package or an image"
    elif _parse(decision.package) is None:
        return f"{decision.package[:200]!r} is no package URL such as pkg:deb/debian/zlib1g@1.2.13"
    if decision.justification is not None and decision.justification not in JUSTIFICATIONS:
        names = ", ".join(sorted(JUSTIFICATIONS))
        return f"{decision.justification[:80]!r} is no justification; there are {names}"
    if decision.status is Status.NOT_AFFECTED:
        if not decision.justification and not decision.text.strip():
            return "not_affected needs a justification or a text that says why"
    elif decision.justification:
        return f"a justification is for not_affected, and the status is {decision.status}"
    return None


def names_package(decision: Decision, package: Package) -> bool:
    """The decision is about this package."""
    if decision.package == EVERY:
        return True
    wanted = _parse(decision.package)
    if wanted is None:
        return False
    own = _parse(package.purl)
    spellings = [_parse(purl) for purl in (package.purl, *subcomponents(package))]
    qualifiers = _of_any_point_release(own.qualifiers) if own else frozenset()
    return any(
        wanted.name == spelling.name
        and wanted.version in ("", spelling.version)
        and wanted.qualifiers <= qualifiers
        for spelling in spellings
        if spelling is not None
    )


def image_digest(purl: str) -> Digest | None:
    """The digest that a purl of type oci names; None when it names none."""
    parsed = _parse(purl)
    if parsed is None or not parsed.name.startswith("oci/"):
        return None
    try:
        return parse_digest(parsed.version)
    except BadDigestError:
        return None


def has_version(purl: str) -> bool:
    """The purl is of one version."""
    parsed = _parse(purl)
    return parsed is not None and bool(parsed.version)


def _of_any_point_release(qualifiers: frozenset[str]) -> frozenset[str]:
    """``distro=debian-12`` is true of Debian 12.15: Syft before 1.57 wrote no more than that."""
    found = filter(None, map(_POINT_RELEASE.fullmatch, qualifiers))
    return qualifiers | {release[1] for release in found}


@dataclass(frozen=True, slots=True)
class _Purl:
    name: str
    """Type, namespace and name."""
    version: str
    """With the epoch in front of it, wherever it was written."""
    qualifiers: frozenset[str]


def _parse(purl: str) -> _Purl | None:
    if not purl.startswith("pkg:"):
        return None
    body, _, rest = purl[4:].partition("#")[0].partition("?")
    head, at, version = body.rpartition("@")
    if not at or "/" in version:  # an @ in front of a slash is npm's, of the namespace
        head, version = body, ""
    kind, slash, name = head.strip("/").partition("/")
    if not kind or not slash or not name:
        return None
    qualifiers = dict(part.split("=", 1) for part in rest.split("&") if "=" in part)
    epoch = qualifiers.pop("epoch", "")
    version = unquote(version)
    return _Purl(
        f"{kind.lower()}/{unquote(name)}",
        f"{epoch}:{version}" if epoch else version,
        frozenset(f"{key}={unquote(value)}" for key, value in qualifiers.items()),
    )


_VERSION = re.compile(r"\d{1,18}(?:\.\d{1,18}){0,2}")


def _rank(decision: Decision) -> tuple[object, ...]:
    """Of two with the same key the higher one holds; equal ones are the same."""
    version = version_order(decision.document_version)
    return (
        version if decision.is_edition else (),
        decision.issued_at_us or (0 if decision.is_edition else decision.decided_at_us),
        version,
        decision.decided_at_us,  # of an edition that of its withdrawal, else when it was issued
        decision.is_edition and not decision.text,  # a later release understood more of it
        -BADNESS[decision.status],
        repr(decision),
    )


def version_order(text: str) -> tuple[object, ...]:
    """By which versions are compared: a whole number (OpenVEX, CSAF) or a semantic version (CSAF);
    the lowest for anything else."""
    core, _, early = text.partition("+")[0].partition("-")
    if not _VERSION.fullmatch(core):
        return ((), False, "")
    return (tuple(int(part) for part in (core + ".0.0").split(".")[:3]), not early, early)
