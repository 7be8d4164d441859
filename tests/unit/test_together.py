"""Which files of tests run in one process."""

import re
from pathlib import Path

from tests.support.together import scope_of

ROOT = Path(__file__).resolve().parents[2]


def test_files_that_share_what_takes_long_to_make_run_in_one_process() -> None:
    fixtures = {"chromium": "tests/e2e", "uses_container": "tests/integration"}
    for fixture, folder in fixtures.items():
        asks = re.compile(rf"\bdef test_\w+\([^)]*\b{fixture}\b")
        files = [p for p in (ROOT / folder).glob("test_*.py") if asks.search(p.read_text())]
        scopes = {scope_of(f"{folder}/{path.name}::test_it[a::b]") for path in files}
        assert len(files) > 3
        assert len(scopes) == 1, files


def test_any_other_file_is_shared_out_by_itself() -> None:
    assert scope_of("tests/unit/test_together.py::test_it") == "tests/unit/test_together.py"
