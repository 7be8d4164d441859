"""The spellings of a package URL that consumers of a VEX document match.

Checked against go-vex, Grype and Trivy: qualifiers in the document must be a subset of those of
the scanned package, so none is written but ``epoch``, and ``arch`` where a platform is meant; and
scanners spell epochs differently.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from vexstream.scan import Package

_DOCKER_HUB = "index.docker.io"
_NATIVE: dict[str, dict[str, tuple[str, ...]]] = {
    "amd64": {"deb": ("amd64",), "rpm": ("x86_64",), "apk": ("x86_64",)},
    "arm64": {"deb": ("arm64",), "rpm": ("aarch64",), "apk": ("aarch64",)},
    "386": {"deb": ("i386",), "rpm": ("i386", "i586", "i686"), "apk": ("x86",)},
    "arm": {"deb": ("armel", "armhf"), "rpm": ("armv7hl",), "apk": ("armhf", "armv7")},
    "ppc64le": {"deb": ("ppc64el",), "rpm": ("ppc64le",), "apk": ("ppc64le",)},
    "riscv64": {"deb": ("riscv64",), "rpm": ("riscv64",), "apk": ("riscv64",)},
    "s390x": {"deb": ("s390x",), "rpm": ("s390x",), "apk": ("s390x",)},
}
"""Architecture as OCI names it -> type of package -> its names there. None stands in two lines."""


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


def on_architecture(spellings: Sequence[str], scanned: str, architecture: str) -> tuple[str, ...]:
    """The spellings with the architecture of the package, if that is the given one of OCI; else ().

    ``scanned`` is the purl exactly as the scanner wrote it.
    """
    kind = scanned.removeprefix("pkg:").partition("/")[0]
    named = parts(scanned).qualifiers.get("arch", "")
    if named not in _NATIVE.get(architecture, {}).get(kind, ()):
        return ()
    return tuple(_narrowed(spelling, named) for spelling in spellings)


def without_architecture(purl: str) -> str:
    """The inverse: a spelling without the qualifier that names the architecture."""
    bare, mark, qualifiers = purl.partition("?")
    kept = [part for part in qualifiers.split("&") if not part.startswith("arch=")]
    return bare + mark + "&".join(kept) if any(kept) else bare


def matches(general: str, specific: str) -> bool:
    """Whether a consumer takes ``specific`` for what ``general`` names.

    Type, namespace, name and version are equal, and the qualifiers of ``general`` are among those
    of ``specific``. A general one without version names every version.
    """
    one, other = parts(general), parts(specific)
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
class Parts:
    """What consumers compare of a purl, decoded; ``path`` is type, namespace and name."""

    path: str
    version: str
    qualifiers: dict[str, str]


def parts(purl: str) -> Parts:
    """Takes a purl apart."""
    bare, _, rest = purl.partition("#")[0].partition("?")
    folder, slash, last = bare.rpartition("/")
    name, _, version = last.partition("@")
    pairs = (part.partition("=") for part in rest.split("&") if "=" in part)
    qualifiers = {key.lower(): unquote(value) for key, _, value in pairs}
    return Parts(unquote(folder + slash + name), unquote(version), qualifiers)


def _narrowed(spelling: str, architecture: str) -> str:
    bare, _, qualifiers = spelling.partition("?")
    return f"{bare}?arch={architecture}" + (f"&{qualifiers}" if qualifiers else "")


def _debian(bare: str, head: str, version: str) -> tuple[str, ...]:
    epoch, colon, upstream = unquote(version).partition(":")
    if not colon:
        return (bare,)
    return (
        f"{head}@{quote(f'{epoch}:{upstream}', safe='~')}",
        f"{head}@{quote(upstream, safe='~')}?epoch={epoch}",
    )
