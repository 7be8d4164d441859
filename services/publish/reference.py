"""Names of images in registries: registry, repository, tag or digest."""

import re
from dataclasses import dataclass

from services.publish.errors import BadReferenceError

_DOCKER_HUB = "registry-1.docker.io"
_REPOSITORY = re.compile(r"[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of a registry. ``registry`` is host and port."""

    registry: str
    path: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}"


@dataclass(frozen=True, slots=True)
class Reference:
    """An image in a repository, by tag or digest."""

    repository: Repository
    version: str


def parse_reference(text: str) -> Reference:
    """Reads ``host/path:tag`` or ``host/path@sha256:...``, as Docker does.

    Raises:
        BadReferenceError: it is none.
    """
    bare, at, digest = text.partition("@")
    folder, slash, last = bare.rpartition("/")
    name, colon, tag = last.partition(":")
    version = digest if at else (tag if colon else "latest")
    if not (_DIGEST if at else _TAG).fullmatch(version):
        raise BadReferenceError(
            f"{text[:200]!r} names no image: {version[:80]!r} is no tag, digest"
        )
    return Reference(parse_repository(folder + slash + name), version)


def parse_repository(text: str) -> Repository:
    """Reads ``host/path``; without host it is Docker Hub.

    Raises:
        BadReferenceError: it is none.
    """
    host, slash, path = text.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, path = _DOCKER_HUB, text if slash else f"library/{text}"
    if host in ("docker.io", "index.docker.io"):
        host, path = _DOCKER_HUB, path if "/" in path else f"library/{path}"
    if not _REPOSITORY.fullmatch(path):
        raise BadReferenceError(f"{text[:200]!r} names no repository: use HOST/PATH in lower case")
    return Repository(host, path)
