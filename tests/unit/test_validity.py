"""That no document of a test goes unchecked, whichever process made it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from tests.support.validity import check_kept, check_openvex
from tests.unit.documents import shared_vulnerability
from vexstream.status import Status

_MAKE = """
from tests.unit.documents import shared_vulnerability
from vexstream.status import Status
shared_vulnerability(*Status)
"""


def test_what_another_process_makes_is_kept_and_checked(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", _MAKE],
        env=os.environ | {"VEXSTREAM_TEST_DOCUMENTS": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        check=True,
    )
    (kept,) = tmp_path.iterdir()
    assert kept.read_bytes() == shared_vulnerability(*Status)
    broken = tmp_path / f"broken{kept.suffix}"
    broken.write_bytes(kept.read_bytes().replace(b"https://vexstream.dev/", b"", 1))
    with pytest.raises(AssertionError):
        check_kept(tmp_path)
    broken.unlink()
    check_kept(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_schema_of_the_specification_is_asked() -> None:
    document = json.loads(shared_vulnerability(*Status))
    document["maker"] = "a field that is not in it"
    with pytest.raises(jsonschema.ValidationError):
        check_openvex(json.dumps(document).encode())
