"""Every way in which real consumers take our documents, and what each promises."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from tests.support.consumers import FOREIGN, OTHER, SHARED, Outcome, Stage


class Promise(Enum):
    """What a way of taking the document does with it."""

    EXACT = "exactly the not_affected and fixed ones"
    CVE_ONLY = "those of them that have a CVE number"
    NATIVE = "those of them that are of packages of the platform alone"
    A_PART = "a part of them, and nothing else"
    NOTHING = "nothing"

    def holds(self, outcome: Outcome) -> bool:
        """Whether the consumer kept it."""
        suppressed, expected = outcome.suppressed, outcome.expected
        if outcome.after - outcome.before:
            return False
        match self:
            case Promise.EXACT:
                return bool(expected) and suppressed == expected
            case Promise.CVE_ONLY:
                return suppressed == {one for one in expected if one[0].startswith("CVE-")}
            case Promise.NATIVE:
                return suppressed == outcome.native < expected
            case Promise.A_PART:
                return bool(suppressed) and suppressed < expected
            case Promise.NOTHING:
                return not suppressed


@dataclass(frozen=True, slots=True)
class Case:
    """A way of taking a document: who, in which form, about what."""

    consumer: str
    form: str
    target: str
    promise: Promise
    run: Callable[[Stage], Outcome]

    def __str__(self) -> str:
        return f"{self.consumer}, {self.form}, {self.target}"


def _trivy_file(name: str, target: str) -> Callable[[Stage], Outcome]:
    return lambda stage: stage.trivy_image(target, str(stage.files[name]))


def _trivy_word(word: str, target: str) -> Callable[[Stage], Outcome]:
    return lambda stage: stage.trivy_image(target, word)


def _grype(name: str, target: str, *options: str) -> Callable[[Stage], Outcome]:
    return lambda stage: stage.grype_outcome(target, stage.files[name], *options)


def _trivy_sbom(vex: str, sbom_name: str) -> Callable[[Stage], Outcome]:
    return lambda stage: stage.trivy_sbom(stage.files[sbom_name], str(stage.files[vex]))


TARGETS = ("tag", "platform digest", "index digest", "tag of the index")
NEITHER = (OTHER, *(f"{target}, {FOREIGN}" for target in SHARED))
"""What must not be hit."""

FILE_CASES = (
    *(Case("Trivy", "OpenVEX file", t, Promise.EXACT, _trivy_file("openvex", t)) for t in TARGETS),
    *(Case("Trivy", "OpenVEX file", t, Promise.NATIVE, _trivy_file("openvex", t)) for t in SHARED),
    *(Case("Trivy", "OpenVEX file", t, Promise.NOTHING, _trivy_file("openvex", t))
      for t in NEITHER),
    *(Case("Trivy", "CSAF file", t, Promise.CVE_ONLY, _trivy_file("csaf", t)) for t in TARGETS),
    *(Case("Trivy", "CSAF file", t, Promise.NATIVE, _trivy_file("csaf", t)) for t in SHARED),
    *(Case("Trivy", "CSAF file", t, Promise.NOTHING, _trivy_file("csaf", t)) for t in NEITHER),
    Case("Trivy", "CycloneDX file", "our own SBOM", Promise.EXACT,
         _trivy_sbom("linked to own", "own sbom")),
    Case("Trivy", "CycloneDX file", "SBOM by Syft", Promise.A_PART,
         _trivy_sbom("linked to syft", "syft sbom")),
    Case("Trivy", "CycloneDX file", "SBOM by Trivy", Promise.A_PART,
         _trivy_sbom("linked to trivy", "trivy sbom")),
    *(Case("Grype", "OpenVEX file", t, Promise.EXACT, _grype("openvex", t)) for t in TARGETS),
    Case("Grype", "OpenVEX file, --by-cve", "tag", Promise.EXACT,
         _grype("openvex", "tag", "--by-cve")),
    *(Case("Grype", "OpenVEX file", t, Promise.NOTHING, _grype("openvex", t))
      for t in (*SHARED, *NEITHER)),
    *(Case("Grype", "OpenVEX file, native", t, Promise.NATIVE, _grype("openvex native", t))
      for t in SHARED),
    Case("Grype", "CSAF file", "tag", Promise.NOTHING, _grype("csaf", "tag")),
)  # fmt: skip
OCI_CASES = (
    *(Case("Trivy", "--vex oci", t, Promise.EXACT, _trivy_word("oci", t)) for t in TARGETS),
    *(Case("Trivy", "--vex oci", t, Promise.NATIVE, _trivy_word("oci", t)) for t in SHARED),
    *(Case("Trivy", "--vex oci", t, Promise.NOTHING, _trivy_word("oci", t)) for t in NEITHER),
)  # fmt: skip
REPOSITORY_CASES = (
    *(Case("Trivy", "--vex repo", t, Promise.EXACT, _trivy_word("repo", t)) for t in TARGETS),
    *(Case("Trivy", "--vex repo", t, Promise.NATIVE, _trivy_word("repo", t)) for t in SHARED),
    *(Case("Trivy", "--vex repo", t, Promise.NOTHING, _trivy_word("repo", t)) for t in NEITHER),
)  # fmt: skip
