"""An image with vulnerable packages of five ecosystems, for the consumers of VEX documents."""

import io
import json
import re
import tarfile
import tempfile
import zipfile
from pathlib import Path

from services.local import image_base
from services.local.image_archive import (
    File,
    ImageArchive,
    ImageConfig,
    layer_of_files,
    write_archive,
)

_PYTHON = "/usr/local/lib/python3.11/dist-packages"
_NODE = "/opt/app/node_modules"


_TELLS = re.compile(
    r"|/|/(?:etc|usr|usr/lib|var|var/lib|var/lib/dpkg|usr/share|usr/share/doc)/?"
    r"|/etc/(?:os-release|debian_version)|/usr/lib/os-release|/var/lib/dpkg/.*"
    r"|/usr/share/doc/[^/]+(?:/copyright)?"
)
_STATUS = "/var/lib/dpkg/status"
_OF_AN_ARCHITECTURE = re.compile(r"(/var/lib/dpkg/info/(?!lib)[^:]+):[a-z0-9]+\.([a-z0-9]+)")
_NATIVE = re.compile(rb"(?m)^Architecture: (?!all$).*$")
_PARAGRAPH = re.compile(rb"(?m)^Package: (?!lib)(?:.+\n)+")


def build(
    cache: Path, folder: Path, go_program: Path, variant: str = "1", architecture: str | None = None
) -> ImageArchive:
    """Debian's packages by name, and Python, npm and Java packages and a Go program.

    Another variant has the same files and other digests. One for another architecture says so, and
    so do its deb packages but for libraries, as in the image of a cross compiler; nothing in it
    runs.
    """
    base = image_base.debian_base(cache, lambda _: None)
    files = {
        **(_packages_of(base, architecture) if architecture else {}),
        **_python("Flask", "2.2.2"),
        **_python("requests", "2.28.1"),
        **_python("Werkzeug", "2.2.2"),
        **_npm("lodash", "4.17.20"),
        **_npm("minimist", "1.2.5"),
        **_npm("@babel/traverse", "7.23.0"),
        **_jar("org.apache.logging.log4j", "log4j-core", "2.14.1"),
        **_jar("org.apache.commons", "commons-text", "1.9"),
        "/usr/local/bin/tool": File(go_program.read_bytes(), 0o755),
    }
    with tempfile.TemporaryDirectory() as work:
        debian, layer = Path(work, "debian.tar"), Path(work, "layer.tar")
        _names_alone(base, debian)
        layer_of_files(files, layer)
        config = ImageConfig(
            ("/usr/local/bin/tool",), env={"VARIANT": variant}, architecture=architecture
        )
        archive = folder / f"consumers-{variant}.tar"
        return write_archive(archive, f"localhost/app:{variant}", [debian, layer], config)


def _names_alone(base: Path, layer: Path) -> None:
    """Of Debian what tells of its packages: every scan of a consumer reads all that is there."""
    with tarfile.open(base) as whole, tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as part:
        for member in whole:
            if _TELLS.fullmatch(member.name.removeprefix(".")) and not member.islnk():
                part.addfile(member, whole.extractfile(member) if member.isreg() else None)


def _packages_of(base: Path, architecture: str) -> dict[str, File]:
    """The database of packages, as if they were for another architecture."""
    files = {}
    with tarfile.open(base) as layer:
        for member in layer:
            path = member.name.removeprefix(".")
            status, of_its_own = path == _STATUS, _OF_AN_ARCHITECTURE.fullmatch(path)
            if not member.isreg() or not (status or of_its_own):
                continue
            content = layer.extractfile(member)
            assert content is not None
            if of_its_own:
                path = f"{of_its_own[1]}:{architecture}.{of_its_own[2]}"
                files[path] = File(content.read())
            else:
                files[path] = File(_as_if_for(architecture, content.read()))
    return files


def _as_if_for(architecture: str, status: bytes) -> bytes:
    named = b"Architecture: %b" % architecture.encode()
    return _PARAGRAPH.sub(lambda found: _NATIVE.sub(named, found[0]), status)


def _python(name: str, version: str) -> dict[str, File]:
    info = f"{name}-{version}.dist-info"
    module = name.lower()
    return {
        f"{_PYTHON}/{module}/__init__.py": File(b""),
        f"{_PYTHON}/{info}/METADATA": File(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
        ),
        f"{_PYTHON}/{info}/RECORD": File(f"{module}/__init__.py,,\n{info}/METADATA,,\n".encode()),
    }


def _npm(name: str, version: str) -> dict[str, File]:
    package = {"name": name, "version": version, "license": "MIT"}
    return {
        f"{_NODE}/{name}/package.json": File(json.dumps(package).encode()),
        f"{_NODE}/{name}/index.js": File(b"module.exports = {}\n"),
    }


def _jar(group: str, artifact: str, version: str) -> dict[str, File]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as jar:
        for name, text in {
            "META-INF/MANIFEST.MF": "Manifest-Version: 1.0\n",
            f"META-INF/maven/{group}/{artifact}/pom.properties": (
                f"groupId={group}\nartifactId={artifact}\nversion={version}\n"
            ),
        }.items():
            jar.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), text)
    return {f"/opt/app/{artifact}-{version}.jar": File(content.getvalue())}
