"""Whether a tmpfs of a container was filled with code of its image."""

import os
from pathlib import Path

import pytest

from services.collector.docker_mounts import copied_code

FILLED = "rw,nosuid,nodev,tmpcopyup"


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """Two layers: the lower one has a script, a program and data, the upper one is empty."""
    for folder in ("lower/opt/app/lib", "lower/opt/data", "lower/srv/tools", "upper/run"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "lower/opt/app/lib/main.py").write_text("")
    (tmp_path / "lower/opt/data/table.csv").write_text("")
    (tmp_path / "lower/srv/tools/run-it").write_text("")
    os.chmod(tmp_path / "lower/srv/tools/run-it", 0o755)
    (tmp_path / "lower/opt/link").symlink_to("/opt/app")
    return tmp_path


def _copied(root: Path, lower: str = "/lower", **tmpfs: str) -> tuple[str, ...]:
    driver = {"LowerDir": lower, "UpperDir": "/upper"} if lower else {}
    paths = {"/" + name.replace("_", "/"): options for name, options in tmpfs.items()}
    container = {"GraphDriver": {"Data": driver}, "HostConfig": {"Tmpfs": paths}}
    return copied_code(container, root)


@pytest.mark.parametrize(
    ("path", "code"),
    [("opt_app", True), ("opt_link", True), ("srv", True), ("opt_data", False), ("run", False),
     ("none", False)],
)  # fmt: skip
def test_code_is_told_by_its_name_or_by_leave_to_execute(
    layers: Path, path: str, code: bool
) -> None:
    name = "/" + path.replace("_", "/")
    assert _copied(layers, **{path: FILLED}) == ((name,) if code else ())
    assert _copied(layers, **{path: "rw,noexec"}) == ()


@pytest.mark.parametrize("lower", ["", "/lower:/gone"])
def test_where_the_layers_cannot_be_looked_at_there_may_be_code(layers: Path, lower: str) -> None:
    assert _copied(layers, lower, opt_data=FILLED) == ("/opt/data",)


def test_a_container_without_one_has_none(layers: Path) -> None:
    assert _copied(layers) == ()
    assert copied_code({}, layers) == ()
