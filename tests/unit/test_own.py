"""Which programs no distribution built."""

import dataclasses

import pytest

from tests.unit.images import artifact, deb, image
from vexstream.imagefiles import Image, Native
from vexstream.own import distributed_files, own_programs
from vexstream.ownership import assign
from vexstream.recognition import Form
from vexstream.sbom import Artifact

DOC = "/usr/share/doc/tool"


def is_own(found: Artifact, path: str, *listed: str) -> bool:
    name = path.encode()
    lists = {b"/var/lib/dpkg/info/tool.list": "\n".join([path, *listed]).encode()}
    known = image(name, contents=lists if listed else {})
    natives = {name: Native(Form.PROGRAM, frozenset(), (0,))}
    where = Image(known.root, known.contents, natives=natives)
    distributed = distributed_files([found], assign([found], where), where)
    return name in own_programs(where, distributed)


@pytest.mark.parametrize(
    ("listed", "own"),
    [
        ([DOC, DOC + "/copyright"], False),
        ([DOC], False),  # a symlink to another package's
        ([DOC, DOC + "/README"], True),
        (["/usr/share/doc/tool2/copyright"], True),
        ([], False),  # no list: nothing is known
    ],
)
def test_a_deb_without_a_copyright_file_is_no_distributions(listed: list[str], own: bool) -> None:
    assert is_own(deb("tool", "/usr/bin/tool"), "/usr/bin/tool", *listed) == own


@pytest.mark.parametrize("kind", ["deb", "rpm", "apk", "alpm"])
def test_what_somebody_else_says_to_have_built_is_no_distributions(kind: str) -> None:
    found = artifact(kind, "tool", files=["/usr/bin/tool"])
    assert is_own(dataclasses.replace(found, foreign=True), "/usr/bin/tool")


@pytest.mark.parametrize("place", ["/usr/local/bin", "/srv/x", "/app", "/home/me"])
def test_no_distribution_puts_programs_there(place: str) -> None:
    assert is_own(deb("tool", f"{place}/tool"), f"{place}/tool")
    for elsewhere in ("/usr/lib/tool", "/opt/tool"):
        assert not is_own(deb("tool", elsewhere), elsewhere)
    assert is_own(artifact("python", "tool", files=["tool.so"]), "/usr/lib/tool")
