"""The table of rights in docs/subscribe.md is that of the production overlay."""

import re
from pathlib import Path

import pytest

from services.common.topics import Topic
from tests.support.secure_kafka import Rule, production_rules

_PAGE = (Path(__file__).parents[2] / "docs/subscribe.md").read_text()
_TOPIC, _LITERAL, _READ, _WRITE = 2, 3, 3, 4


@pytest.mark.parametrize("account", sorted(production_rules()))
def test_the_page_tells_the_rights_of_each_service(account: str) -> None:
    name = account.removeprefix("vexstream-")
    (row,) = re.findall(rf"^\| {name} \|(.*)\|(.*)\|$", _PAGE, re.MULTILINE)
    told = [{one for one in re.findall(r"`([^`]+)`", cell) if one in set(Topic)} for cell in row]
    rules = production_rules()[account]
    assert told == [_topics(rules, _READ), _topics(rules, _WRITE)]


def _topics(rules: list[Rule], operation: int) -> set[str]:
    return {
        rule.name.removeprefix("vexstream.")
        for rule in rules
        if (rule.resource, rule.pattern, rule.operation) == (_TOPIC, _LITERAL, operation)
    }
