"""What people and vendors say about vulnerabilities: it overrides what observation says.

A decision names a vulnerability, a package and the images for which it holds. Of several that fit
a finding the first counts in this order: a person before a vendor, one image before all images,
one package before all packages, one version before all versions, the newest, the worst status.
A package without purl cannot be named, so no decision fits it.

Of two of a vendor's with the same key one holds, in whatever order they come: that of the document
that was issued last, then of the higher version of it, then the newer statement, the worst status.
Of a person's it is the one that came last.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import unquote

from vexstream.identity import BadDigestError, Digest, Image, parse_digest
from vexstream.purl import subcomponents
from vexstream.scan import Package
from vexstream.status import BADNESS, RULES_OUT, Status

EVERY = "*"

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

    @property
    def key(self) -> bytes:
        """Key of the Kafka record: a newer decision of the same kind on the same replaces it."""
        return f"{self.source}|{self.scope}|{self.vulnerability}|{self.package}".encode()

    def yields_to(self, other: "Decision") -> bool:
        """The other, which has the same key, holds in its place where this one came first."""
        return self.source is DecisionSource.HUMAN or _rank(self) < _rank(other)


def problem(decision: Decision) -> str | None:
    """Why the decision cannot be used; None when it can."""
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


class Decisions:
    """The decisions that hold, found by vulnerability."""

    def __init__(self, decisions: Iterable[Decision] = ()) -> None:
        self._by_key = {decision.key: decision for decision in decisions}
        self._index()

    def put(self, decision: Decision) -> bool:
        """Takes a decision in; says whether it changed anything."""
        key = decision.key
        known = self._by_key.get(key)
        if known is not None and (known == decision or not known.yields_to(decision)):
            return False
        self._by_key[key] = decision
        self._index()
        return True

    def withdraw(self, key: bytes) -> bool:
        """Takes a decision back; says whether there was one."""
        if self._by_key.pop(key, None) is None:
            return False
        self._index()
        return True

    def doubt(self, key: bytes) -> bool:
        """What took a decision's place cannot be read: it rules nothing out any more; says whether
        it did."""
        held = self._by_key.get(key)
        return held is not None and held.status in RULES_OUT and self.withdraw(key)

    def seal(self) -> str:
        """The same for the same decisions."""
        return self._seal

    def __len__(self) -> int:
        return len(self._by_key)

    def fitting(self, names: Iterable[str], package: Package, image: Image) -> Decision | None:
        """The decision that counts for a vulnerability under any of its names, or None.

        The first name is the finding's own. An advisory about several CVEs is ruled out by a
        decision about itself, or by those about all of them: one CVE does not speak for the others,
        nor for one that goes by its name as well.
        """
        own, *_ = names = tuple(names)
        candidates = [d for name in names for d in self._by_vulnerability.get(name, ())]
        if not candidates or not package.purl:
            return None
        digests = {EVERY, image.config_digest, *image.manifest_digests}
        fitting = [d for d in candidates if d.scope in digests and names_package(d, package)]
        advised = {name for name in names if name.startswith("CVE-")} - {own}
        if own.startswith("CVE-"):
            fitting = [
                d for d in fitting if d.status not in RULES_OUT or d.vulnerability not in advised
            ]
        if len(advised) < 2:
            return min(fitting, key=_weight, default=None)
        whole = [d for d in fitting if d.vulnerability not in advised]
        return min(whole, key=_weight, default=None) or _of_all(advised, fitting)

    def _index(self) -> None:
        found: dict[str, list[Decision]] = defaultdict(list)
        for decision in self._by_key.values():
            found[decision.vulnerability].append(decision)
        self._by_vulnerability = dict(found)
        held = sorted((key, repr(decision)) for key, decision in self._by_key.items())
        self._seal = hashlib.sha256(repr(held).encode()).hexdigest() if held else ""


def _of_all(names: Iterable[str], fitting: Iterable[Decision]) -> Decision | None:
    """The worst of the decisions about the names, if it holds without those that have none."""
    held: dict[str, Decision] = {}
    for decision in sorted(fitting, key=_weight):
        held.setdefault(decision.vulnerability, decision)
    worst = min(held.values(), key=lambda d: (BADNESS[d.status], _weight(d)), default=None)
    if worst is None or (worst.status in RULES_OUT and not held.keys() >= set(names)):
        return None
    return worst


def names_package(decision: Decision, package: Package) -> bool:
    """The decision is about this package."""
    if decision.package == EVERY:
        return True
    wanted = _parse(decision.package)
    if wanted is None:
        return False
    own = _parse(package.purl)
    spellings = [_parse(purl) for purl in (package.purl, *subcomponents(package))]
    qualifiers = own.qualifiers if own else frozenset()
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
    return (
        decision.issued_at_us or decision.decided_at_us,
        _version(decision.document_version),
        decision.decided_at_us,
        -BADNESS[decision.status],
        repr(decision),
    )


def _version(text: str) -> tuple[object, ...]:
    """A whole number (OpenVEX, CSAF) or a semantic version (CSAF); the lowest for anything else."""
    core, _, early = text.partition("+")[0].partition("-")
    if not _VERSION.fullmatch(core):
        return ((), False, "")
    return (tuple(int(part) for part in (core + ".0.0").split(".")[:3]), not early, early)


def _weight(decision: Decision) -> tuple[object, ...]:
    return (
        decision.source is not DecisionSource.HUMAN,
        decision.scope == EVERY,
        decision.package == EVERY,
        not has_version(decision.package),
        -decision.decided_at_us,
        BADNESS[decision.status],
        decision.key,
        decision.author,
        decision.text,
    )
