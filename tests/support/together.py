"""Files of tests that run in one process, one after the other, for they share what takes long to
make: with ``--dist loadfile`` each process would make it again."""

import re
from typing import Any

import pytest

_TOGETHER = {
    "the site of the pages": re.compile(r"tests/e2e/test_page_\w+\.py"),
    "the container that uses files": re.compile(
        r"tests/integration/test_collector_(bcc|hooks|losses|paths|probe)\.py"
    ),
}


def scope_of(nodeid: str) -> str:
    """The file of a test, or what its file shares with others."""
    file = nodeid.split("::", 1)[0]
    return next((what for what, files in _TOGETHER.items() if files.fullmatch(file)), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any | None:
    """None for every other way of sharing out."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return Together(config, log)
