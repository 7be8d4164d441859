"""Modules of which several Python packages say that they are theirs."""

from dataclasses import replace

from tests.unit.images import SITE, artifact, deb, image
from vexstream.imagefiles import Image
from vexstream.ownership import assign
from vexstream.sbom import Artifact

NAMESPACE = ("azure/__init__.py", "azure/cosmos/a.py", "azure/storage/b.py", "azure/mine/c.py")
CACHED = "azure/cosmos/__pycache__/a.cpython-311.pyc"


def _egg(name: str) -> str:
    return f"{SITE}/{name}.egg-info/PKG-INFO"


def _of(source: str, name: str, *files: str) -> Artifact:
    return replace(deb(name, *files), source=source)


def _python(name: str, *top: str) -> Artifact:
    return artifact("python", name, at=(_egg(name),), top=top)


def _owned(place: Image, *artifacts: Artifact) -> dict[str, set[str]]:
    """Names of files by the Python packages that own them."""
    return {
        package.name: {path.rpartition(b"/")[2].decode() for path in package.files}
        for package in assign(artifacts, place)
        if package.type == "python"
    }


def _place(*files: str) -> Image:
    return image(*(name.encode() for name in files))


def _namespace(*top: str) -> dict[str, set[str]]:
    """Two debs and pip have put files in one; Python has compiled one of them."""
    modules = [f"{SITE}/{name}" for name in NAMESPACE]
    place = _place(*modules, f"{SITE}/{CACHED}", _egg("cosmos"), _egg("storage"), "usr/bin/cosmos")
    return _owned(
        place,
        _of("cosmos", "python3-cosmos", _egg("cosmos"), *modules[:2], "/usr/bin/cosmos"),
        _of("azure", "python3-storage", _egg("storage"), modules[2]),
        _python("cosmos", *top),
        _python("storage", "azure"),
        artifact("python", "mine", files=(NAMESPACE[3],)),
    )


def test_in_a_namespace_a_package_owns_what_its_deb_brought() -> None:
    """As python3-azure and python3-azure-cosmos do, beside which pip puts others."""
    found = _namespace("azure")
    assert found["cosmos"] == {"__init__.py", "a.py", "cosmos", "PKG-INFO"}
    assert found["storage"] == {"b.py", "PKG-INFO"}
    assert found["mine"] == {"c.py"}


def test_a_namespace_takes_nothing_from_a_package_that_does_not_name_it() -> None:
    """Its modules went to the other one, and its program alone said that it was in use."""
    assert _namespace()["cosmos"] == {"__init__.py", "a.py", "cosmos", "PKG-INFO"}


def test_debs_of_one_source_may_share_the_modules_of_a_package() -> None:
    module = f"{SITE}/m/a.so"
    found = _owned(
        _place(_egg("m"), module),
        deb("python3-m", _egg("m")),
        deb("python3-m-lib", module),
        _python("m", "m"),
    )
    assert "a.so" in found["m"]


def test_a_deb_without_a_python_package_of_its_own_takes_no_modules() -> None:
    """Nobody else says that they are his: debs of vendors name no source."""
    modules = f"{SITE}/m/__init__.py", f"{SITE}/m/a.so"
    found = _owned(
        _place(_egg("m"), *modules, "/usr/bin/m"),
        _of("m", "python3-m", _egg("m"), modules[0], "/usr/bin/m"),
        _of("m-native", "m-native", modules[1]),
        _python("m", "m"),
    )
    assert "a.so" in found["m"]


def test_a_package_keeps_its_modules_when_its_own_deb_brought_none() -> None:
    """They were left out of it because the other one has them."""
    module = f"{SITE}/m/a.py"
    found = _owned(
        _place(_egg("m"), _egg("core"), module, "/usr/bin/m"),
        _of("m", "python3-m", _egg("m"), "/usr/bin/m"),
        _of("core", "python3-core", _egg("core"), module),
        _python("m", "m"),
        _python("core", "m"),
    )
    assert "a.py" in found["m"]
    assert "a.py" in found["core"]


def test_a_list_that_names_anothers_module_does_not_take_it() -> None:
    """A wheel brings six.py along, and the distribution leaves it out, but not out of its list."""
    six = f"{SITE}/six.py"
    record = f"{SITE}/wheel-1.dist-info/RECORD"
    found = _owned(
        _place(_egg("six"), six, f"{SITE}/wheel.py", record, "/usr/bin/six"),
        _of("six", "python3-six", _egg("six"), six, "/usr/bin/six"),
        _of("wheel", "python3-wheel", record, f"{SITE}/wheel.py"),
        _python("six"),
        artifact("python", "wheel", files=("six.py", "wheel.py"), at=(record,)),
    )
    assert "six.py" in found["six"]
