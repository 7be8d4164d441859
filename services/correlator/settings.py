"""Settings of the correlator."""

from pathlib import Path

from pydantic import Field

from services.common.settings import CommonSettings
from vexstream.correlation import Policy
from vexstream.openvex import Publisher


class CorrelatorSettings(CommonSettings):
    """Variables VEXSTREAM_<FIELD>."""

    learning_period_seconds: float = Field(default=24 * 3600, gt=0)
    """How long a container must be observed from its creation before absence is evidence."""
    flush_interval_seconds: float = Field(default=0.25, gt=0)
    """How often changed digests are assessed; many batches make one document."""
    author: str = Field(default="vexstream", min_length=1)
    base_iri: str = Field(default="https://vexstream.dev/vex", pattern=r"^https?://[^\s]+[^/\s]$")
    """Namespace of document ids, without trailing slash."""
    correlator_group: str = "vexstream-correlator"
    """Consumer group; its state's changelog topics carry the name too."""
    state_dir: Path = Path("/var/lib/vexstream/correlator")

    def policy(self) -> Policy:
        """What the core needs of these settings."""
        return Policy(
            learning_period_us=round(self.learning_period_seconds * 1_000_000),
            publisher=Publisher(author=self.author, base_iri=self.base_iri),
        )
