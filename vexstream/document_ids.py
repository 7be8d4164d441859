"""Ids of documents: what they are of, and which takes the place of which.

An id is an IRI that ends with the digest of the image:

- ``<base>/<digest>``: what was observed in a cluster, with a version that counts up;
- ``<base>/ci/<job>/<seal>/<digest>``: what a test run came to. The seal is of the content, for runs
  of one job, as the legs of a matrix are, must not be two contents of one document;
- ``<base>/merged/<seal>/<digest>``, ``<base>/ci/merged/<seal>/<digest>``: several of them, merged;
  the second where all are of tests.
"""

import hashlib
import re

from vexstream.identity import Digest, parse_digest

_ID = re.compile(
    r"(?P<base>.+?)(?:/ci/(?P<job>[a-z0-9-]+)(?:/[0-9a-f]{16})?|/merged/[0-9a-f]{16})?"
    r"/(?P<digest>sha256:[0-9a-f]{64})\Z"
)


class NotOurIdError(ValueError):
    """The id is not of a form that vexstream gives."""


def base_and_digest(identifier: str) -> tuple[str, Digest]:
    """The namespace of an id, and the image that its document is about.

    Raises:
        NotOurIdError: see there.
    """
    match = _match(identifier)
    return match["base"], parse_digest(match["digest"])


def is_of_tests(identifier: str) -> bool:
    """Whether a test run is all that the document rests on."""
    match = _ID.fullmatch(identifier)
    return match is not None and match["job"] is not None


def are_of_one_image(one: str, other: str) -> bool:
    """Whether two documents are about the same image; of ids that are not ours, that may be."""
    ids = _ID.fullmatch(one), _ID.fullmatch(other)
    return None in ids or len({found["digest"] for found in ids if found}) == 1


def base_of_tests(base: str, job: str, content: bytes) -> str:
    """What comes before the digest in the id of a test run's document."""
    return f"{base}/ci/{job}/{_seal(content)}"


def merged_id(base: str, digest: Digest, content: bytes, *, of_tests: bool) -> str:
    """The id of a merged document; of nothing but test runs it is one itself."""
    return f"{base}/{'ci/' if of_tests else ''}merged/{_seal(content)}/{digest}"


def replaces(ours: str, theirs: str) -> bool:
    """Whether a document of ours, attached to an image, takes the place of one that is there.

    A newer one does of the same job or the same base. Whatever production says replaces what tests
    alone came to; the other way round it does not.
    """
    one, other = _ID.fullmatch(ours), _ID.fullmatch(theirs)
    if one is None or other is None:
        return ours == theirs
    if one["digest"] != other["digest"] or one["base"] != other["base"]:
        return False
    return (one["job"] is None and other["job"] is not None) or one["job"] == other["job"]


def _seal(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _match(identifier: str) -> re.Match[str]:
    match = _ID.fullmatch(identifier)
    if match is None:
        raise NotOurIdError(f"{identifier[:120]} does not end with the digest of an image")
    return match
