"""The spellings of a package URL that consumers of a VEX document match.

Checked against go-vex, Grype and Trivy: qualifiers in the document must be a subset of those of
the scanned package, so none is written but ``epoch``; and scanners spell epochs differently.
"""

from urllib.parse import quote, unquote

from vexstream.scan import Package


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


def product(name: str, digest: str) -> str:
    """The purl of an image: lower-case last path segment of its name, no qualifiers."""
    last = name.rsplit("/", 1)[-1].partition("@")[0].partition(":")[0].lower()
    return f"pkg:oci/{quote(last, safe='')}@{digest.replace(':', '%3A')}"


def _debian(bare: str, head: str, version: str) -> tuple[str, ...]:
    epoch, colon, upstream = unquote(version).partition(":")
    if not colon:
        return (bare,)
    return (
        f"{head}@{quote(f'{epoch}:{upstream}', safe='~')}",
        f"{head}@{quote(upstream, safe='~')}?epoch={epoch}",
    )
