"""The spellings of a package URL that consumers of a VEX document match.

Checked against go-vex, Grype and Trivy: qualifiers in the document must be a subset of those of
the scanned package, so none is written but ``epoch``; and scanners spell epochs differently.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote

from vexstream.scan import Package

_DOCKER_HUB = "index.docker.io"


def subcomponents(package: Package) -> tuple[str, ...]:
    """The purls under which a package is named in a document; never empty."""
    if not package.purl:
        name = quote(package.name, safe="")
        return (f"pkg:generic/{name}@{quote(package.version, safe='')}",)
    bare, _, rest = package.purl.partition("#")[0].partition("?")
    qualifiers = dict(part.split("=", 1) for part in rest.split("&") if "=" in part)
    if "epoch" in qualifiers:
        return (f"{bare}?epoch={qualifiers['epoch']}",)
    head, at, version = bare.rpartition("@")
    if not at:
        return (bare,)
    if bare.startswith("pkg:deb/"):
        return _debian(bare, head, version)
    if bare.startswith("pkg:golang/stdlib@"):
        plain = version.removeprefix("v").removeprefix("go")
        return (f"{head}@{plain}", f"{head}@v{plain}")
    return (bare,)


def matches(general: str, specific: str) -> bool:
    """Whether a consumer takes ``specific`` for what ``general`` names.

    Type, namespace, name and version are equal, and the qualifiers of ``general`` are among those
    of ``specific``. A general one without version names every version.
    """
    one, other = _parts(general), _parts(specific)
    return (
        one.path == other.path
        and one.version in ("", other.version)
        and one.qualifiers.items() <= other.qualifiers.items()
    )


def product(name: str, digest: str) -> str:
    """The purl of an image: lower-case last path segment of its name, no qualifiers."""
    last = name.rsplit("/", 1)[-1].partition("@")[0].partition(":")[0].lower()
    return f"pkg:oci/{quote(last, safe='')}@{digest.replace(':', '%3A')}"


def repository_url(name: str) -> str:
    """The repository of an image name, with its registry; the name may lack that, as Docker's do.

    Without tag and digest; Docker Hub is spelt as Trivy spells it.
    """
    bare = name.partition("@")[0]
    folder, slash, last = bare.rpartition("/")
    repository = folder + slash + last.partition(":")[0]
    host, slash, path = repository.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, path = _DOCKER_HUB, repository
    elif host in ("docker.io", "registry-1.docker.io"):
        host = _DOCKER_HUB
    if host == _DOCKER_HUB and "/" not in path:
        path = f"library/{path}"
    return f"{host}/{path}"


@dataclass(frozen=True, slots=True)
class _Parts:
    path: str
    version: str
    qualifiers: dict[str, str]


def _parts(purl: str) -> _Parts:
    bare, _, rest = purl.partition("#")[0].partition("?")
    folder, slash, last = bare.rpartition("/")
    name, _, version = last.partition("@")
    pairs = (part.partition("=") for part in rest.split("&") if "=" in part)
    qualifiers = {key.lower(): unquote(value) for key, _, value in pairs}
    return _Parts(unquote(folder + slash + name), unquote(version), qualifiers)


def _debian(bare: str, head: str, version: str) -> tuple[str, ...]:
    epoch, colon, upstream = unquote(version).partition(":")
    if not colon:
        return (bare,)
    return (
        f"{head}@{quote(f'{epoch}:{upstream}', safe='~')}",
        f"{head}@{quote(upstream, safe='~')}?epoch={epoch}",
    )
