"""Archives that a server takes out of another one when it starts, and reads from then on.

Tomcat unpacks ``webapps/shop.war`` to ``webapps/shop``, Jetty to ``/tmp/jetty-…``. The first start
opens the war, but a container that is started again, and perhaps first seen then, opens only what
was taken out. So a package within an archive has a file more, where Tomcat puts it; elsewhere it is
known by its name (vexstream/relocated.py).
"""

import posixpath
import re
from collections.abc import Sequence
from dataclasses import replace

from vexstream.claims import JAVA_TYPES
from vexstream.sbom import Artifact
from vexstream.scan import Package

_ARCHIVE = re.compile(r".*\.(?:[jwersnk]ar|par|lpkg|[jh]pi)\Z", re.IGNORECASE | re.DOTALL)


def with_exploded(
    artifacts: Sequence[Artifact], packages: Sequence[Package]
) -> tuple[Package, ...]:
    """The packages with the places of their archives once these are unpacked."""
    return tuple(
        _with(package, _inner(artifact)) if artifact.type in JAVA_TYPES else package
        for artifact, package in zip(artifacts, packages, strict=True)
    )


def _inner(artifact: Artifact) -> bytes:
    """Its archive, below the one that it is in; empty when it is in none."""
    *outer, name = [part for part in artifact.within.split(":") if _ARCHIVE.match(part)] or [""]
    parts = [*(posixpath.splitext(part)[0] for part in outer), name]
    return "/".join(parts).encode("utf-8", "replace")


def _with(package: Package, inner: bytes) -> Package:
    homes = {posixpath.splitext(path)[0] for path in package.files if inner}
    return replace(
        package, files=tuple(sorted({*package.files, *(home + b"/" + inner for home in homes)}))
    )
