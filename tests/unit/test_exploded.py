"""What servers take out of archives when they start still belongs to the packages in these."""

from dataclasses import replace

import pytest

from tests.unit.factories import package, scan
from tests.unit.images import artifact
from vexstream.evidence import Use
from vexstream.exploded import with_exploded
from vexstream.usage import FileIndex

WAR = b"/usr/local/tomcat/webapps/shop.war"


@pytest.mark.parametrize(
    ("within", "place"),
    [
        ("WEB-INF/lib/a-1.jar", b"/usr/local/tomcat/webapps/shop/WEB-INF/lib/a-1.jar"),
        ("WEB-INF/lib/a-1.jar:org.acme:b", b"/usr/local/tomcat/webapps/shop/WEB-INF/lib/a-1.jar"),
        ("x.war:WEB-INF/lib/a-1.jar", b"/usr/local/tomcat/webapps/shop/x/WEB-INF/lib/a-1.jar"),
        ("org.acme:b", None),
        ("", None),
    ],
)
def test_a_package_within_an_archive_has_a_place_once_it_is_unpacked(
    within: str, place: bytes | None
) -> None:
    inner = replace(artifact("java-archive", "a"), within=within)
    [found] = with_exploded([inner], [package("a", WAR)])
    assert set(found.files) == {WAR} | ({place} if place else set())


def test_the_use_of_what_was_taken_out_is_use_of_the_package() -> None:
    """In an earlier life of the container, by Tomcat, or by Jetty into its directory for work."""
    inner = replace(artifact("java-archive", "a"), within="WEB-INF/lib/a-1.jar")
    index = FileIndex(scan(with_exploded([inner], [package("a", WAR)]), []))
    use = int(Use.OPENED | Use.REWRITTEN)
    for path in (b"/usr/local/tomcat/webapps/shop/WEB-INF/lib/a-1.jar",
                 b"/tmp/jetty-shop_war-123/webapp/WEB-INF/lib/a-1.jar"):  # fmt: skip
        assert index.owners(path, use) == ("a",)
    assert index.owners(b"/tmp/other/WEB-INF/lib/b-1.jar", use) == ()
