"""Which regular files of the image belong to which package.

What the packages claim (vexstream/claims.py) is resolved through the image's own symlinks, for the
kernel reports paths without symlinks. Then:

1. A path that is a regular file belongs to every package that claims it.
2. A path that is a symlink to a regular file makes the claimant its owner only when no package
   claims the file itself: ``libfoo-dev`` does not own what ``libfoo.so`` points to.
3. A language package whose installation record belongs to a package of the operating system owns
   that package's files as well: it was installed by it, and its own record may be stripped.
4. Hard links of an owned file that nobody claims belong to the owners of the file.
5. Bytecode belongs to the owner of its source (``filekinds.owner_path``).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from vexstream.claims import OS_TYPES, Claim, Image, claim
from vexstream.filekinds import Kind, kind, owner_path
from vexstream.rootfs import RootFs
from vexstream.sbom import Artifact
from vexstream.scan import Package

NO_FILES = "none of its files is in the image"
ONLY_METADATA = "it owns only documentation and records of its installation"


def assign(artifacts: Sequence[Artifact], image: Image) -> tuple[Package, ...]:
    """The packages, each with the files that it owns."""
    claims = [claim(artifact, image) for artifact in artifacts]
    owned: list[set[bytes]] = []
    linked: list[set[bytes]] = []
    for made in claims:
        files, targets = _resolve(image.root, made.paths)
        owned.append(files)
        linked.append(targets)
    complete = _with_installers(artifacts, claims, owned, image.root)
    _give_link_targets(owned, linked)
    _give_hard_links(owned, image.root)
    return tuple(
        _package(artifact, files, None if whole else made.incomplete)
        for artifact, made, files, whole in zip(artifacts, claims, owned, complete, strict=True)
    )


def _resolve(root: RootFs, paths: Iterable[bytes]) -> tuple[set[bytes], set[bytes]]:
    """The regular files among the paths, and those that symlinks among them lead to."""
    files: set[bytes] = set()
    targets: set[bytes] = set()
    for path in paths:
        found = root.file_at(path)
        if found is not None:
            (targets if found.by_symlink else files).add(found.path)
    return files, targets


def _with_installers(
    artifacts: Sequence[Artifact],
    claims: Sequence[Claim],
    owned: Sequence[set[bytes]],
    root: RootFs,
) -> list[bool]:
    """Adds the files of installing packages (rule 3); says which claims are complete then."""
    records = {made.record: root.realpath(made.record) for made in claims if made.record}
    wanted = set(records.values())
    installers: dict[bytes, set[bytes]] = defaultdict(set)
    for artifact, files in zip(artifacts, owned, strict=True):
        if artifact.type in OS_TYPES:
            for path in files & wanted:
                installers[path] |= files
    complete = []
    for artifact, made, files in zip(artifacts, claims, owned, strict=True):
        record = records.get(made.record) if made.record else None
        by_os = artifact.type in OS_TYPES
        installed = installers.get(record) if record and not by_os else None
        if installed:
            files |= installed
        complete.append(made.incomplete is None or bool(installed))
    return complete


def _give_link_targets(owned: Sequence[set[bytes]], linked: Sequence[set[bytes]]) -> None:
    claimed = set().union(*owned)
    for files, targets in zip(owned, linked, strict=True):
        files |= targets - claimed


def _give_hard_links(owned: Sequence[set[bytes]], root: RootFs) -> None:
    groups = [set(names) for names in root.hard_links()]
    if not groups:
        return
    claimed = set().union(*owned)
    for names in groups:
        orphans = names - claimed
        if orphans and names & claimed:
            for files in owned:
                if not names.isdisjoint(files):
                    files |= orphans


def _package(artifact: Artifact, files: set[bytes], incomplete: str | None) -> Package:
    paths = tuple(sorted({owner_path(path) for path in files}))
    unobservable = incomplete
    if unobservable is None and not paths:
        unobservable = NO_FILES
    elif unobservable is None and all(kind(path) is Kind.METADATA for path in paths):
        unobservable = ONLY_METADATA
    return Package(
        id=artifact.id,
        name=artifact.name,
        version=artifact.version,
        type=artifact.type,
        purl=artifact.purl,
        files=paths,
        unobservable=unobservable,
    )


def owners(packages: Iterable[Package]) -> Mapping[bytes, list[str]]:
    """File -> ids of the packages that own it."""
    found: dict[bytes, list[str]] = defaultdict(list)
    for package in packages:
        for path in package.files:
            found[path].append(package.id)
    return found
