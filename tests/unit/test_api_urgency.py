"""The order in which people look at statements and images."""

from services.api.statements import IndexedStatement
from services.api.urgency import of_image, weigh
from vexstream.ratings import Rating


def statement(name: str, status: str) -> IndexedStatement:
    return IndexedStatement(
        name, (), f"pkg:deb/debian/{name}@1", (), status, None, None, "", None, None
    )


def test_used_before_open_before_settled_then_exploited_then_epss_then_severity() -> None:
    expected = [
        ("exploited", "affected", Rating("exploited", "low", 0.01, True)),
        ("likely", "affected", Rating("likely", "low", 0.9)),
        ("severe", "affected", Rating("severe", "critical", 0.2)),
        ("alike", "affected", Rating("alike", "high", 0.2)),
        ("unrated", "affected", Rating("unrated")),
        ("open", "under_investigation", Rating("open", "critical", 0.99, True)),
        ("settled", "not_affected", Rating("settled", "critical", 1.0, True)),
    ]
    statements = [statement(name, status) for name, status, _ in expected]
    weighed = weigh(reversed(statements), [rating for _, _, rating in expected])
    ordered = sorted(weighed, key=lambda one: -one.urgency)
    assert [one.statement.vulnerability for one in ordered] == [name for name, _, _ in expected]


def test_half_a_percent_of_epss_outweighs_any_severity() -> None:
    one, other = statement("one", "affected"), statement("other", "affected")
    low, high = weigh(
        [one, other], [Rating("one", "unknown", 0.026), Rating("other", "critical", 0.02)]
    )
    assert low.urgency > high.urgency


def test_an_image_is_as_urgent_as_what_is_open_on_it() -> None:
    statements = [
        statement("a", "affected"),
        statement("b", "under_investigation"),
        statement("c", "not_affected"),
    ]
    ratings = [Rating("a", "high", 0.1), Rating("b", "odd", None, True), Rating("c", "high", 0.9)]
    weighed = weigh(statements, ratings)
    found = of_image(weighed)
    assert found.urgency == weighed[0].urgency
    assert found.open_severities == {"high": 1, "unknown": 1}
    assert (found.open_exploited, found.open_epss) == (1, 0.1)
    assert of_image(weighed[2:]).urgency == 0


def test_a_package_is_searched_by_its_name_alone() -> None:
    names = {
        "pkg:deb/debian/zlib1g@1%3A1.2": "zlib1g",
        "pkg:maven/org.apache.logging/Log4j-Core@2.1?type=jar": "log4j-core",
        "pkg:npm/%40scope/thing@1": "thing",
        "pkg:golang/github.com/a/b@v1#sub/dir": "b",
        "pkg:generic/plain": "plain",
    }
    for purl, name in names.items():
        found = IndexedStatement("CVE-1", (), purl, (), "fixed", None, None, "", None, None)
        assert found.package_name == name
