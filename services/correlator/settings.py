"""Settings of the correlator."""

from pathlib import Path

from pydantic import Field, PositiveFloat

from services.common.settings import CommonSettings
from vexstream.correlation import Policy
from vexstream.openvex import Publisher
from vexstream.products import IndexProducts
from vexstream.rules import DataAccess, Rules

_LEAST_SECONDS = 3600.0


class CorrelatorSettings(CommonSettings):
    """Variables VEXSTREAM_<FIELD>."""

    learning_period_seconds: float = Field(default=24 * 3600, gt=0)
    """How long a container must be observed from its creation before absence is evidence."""
    namespace_learning_period_seconds: dict[str, PositiveFloat] = Field(default_factory=dict)
    """The same for single namespaces, as JSON: {"batch": 3600}. A pod's annotation beats both."""
    minimum_learning_period_seconds: PositiveFloat | None = None
    """The least that an annotation or a namespace may ask for, against who may create pods but not
    decide over statements; unset, an hour, or the cluster's period where that is shorter."""
    strict_coverage: bool = False
    """Every container must be seen without loss and gap, not one of each workload."""
    data_access: DataAccess = DataAccess.AFFECTED
    """Status of a package of which only files were opened that are no code."""
    silence_seconds: float = Field(default=300, gt=0)
    """A container of which nothing was heard for so long, while others were, is called silent."""
    flush_interval_seconds: float = Field(default=0.25, gt=0)
    """How often changed digests are assessed; many batches make one document."""
    evidence_interval_seconds: float = Field(default=5, gt=0)
    """How often at most the evidence of a digest is published."""
    files_in_memory: int = Field(default=3_000_000, gt=0)
    """Files of evidence and scans held in memory; the rest waits on disk (docs/correlator.md)."""
    author: str = Field(default="vexstream", min_length=1)
    base_iri: str = Field(default="https://vexstream.dev/vex", pattern=r"^https?://[^\s]+[^/\s]$")
    """Namespace of document ids, without trailing slash."""
    index_products: IndexProducts = IndexProducts.SOUND
    """``native`` if no image of an index holds packages of another one's architecture, ``all`` if
    they run the same code and are observed, ``none`` to rule nothing out by it
    (docs/consumers.md)."""
    correlator_group: str = "vexstream-correlator"
    """Consumer group; its state's changelog topics carry the name too."""
    state_dir: Path = Path("/var/lib/vexstream/correlator")
    """Scratch space of one worker: its tables are rebuilt from the changelog at every start."""

    def policy(self) -> Policy:
        """What the core needs of these settings."""
        rules = Rules(
            learning_period_us=_us(self.learning_period_seconds),
            minimum_period_us=_us(self._minimum_seconds()),
            namespace_periods_us={
                name: _us(seconds)
                for name, seconds in self.namespace_learning_period_seconds.items()
            },
            strict=self.strict_coverage,
            data_access=self.data_access,
            silence_us=_us(self.silence_seconds),
        )
        return Policy(rules, Publisher(self.author, self.base_iri, self.index_products))

    def _minimum_seconds(self) -> float:
        if self.minimum_learning_period_seconds is not None:
            return self.minimum_learning_period_seconds
        return min(_LEAST_SECONDS, self.learning_period_seconds)


def _us(seconds: float) -> int:
    return round(seconds * 1_000_000)
