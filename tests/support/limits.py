"""What the manifests permit."""

import re
from pathlib import Path

_MANIFEST = Path(__file__).parents[2] / "deploy/kustomize/base/collector.yaml"


def collector_mib() -> int:
    """The limit of the collector's memory."""
    found = re.search(r"limits:\s+memory: (\d+)Mi\b", _MANIFEST.read_text())
    assert found is not None
    return int(found[1])
