"""Settings of the collector."""

import socket
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.collector.host import HostProcess
from services.common.settings import CommonSettings


class CollectorSettings(CommonSettings):
    """Every field is the variable VEXSTREAM_<FIELD>; an empty one is as none."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    cri_endpoint: str = "unix:///run/containerd/containerd.sock"
    runtimes: str = ""
    """Other runtimes, or several: ``cri=unix://…,docker=unix://…,podman=unix://…``. Goes before
    ``cri_endpoint``."""
    node_name: str = Field(default_factory=socket.gethostname, min_length=1)
    cluster_name: str = Field(
        default="", pattern=r"^(-|[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?)?$"
    )
    """Goes before every workload's namespace, as ``east/shop``: of several clusters that send to
    one Kafka equal names would be one workload. Unset, in Kubernetes it is the cluster's id (the
    UID of the namespace ``kube-system``), elsewhere this host (hostid.py). ``-``: nothing, for
    this is the only cluster."""
    kubernetes_account_dir: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    """Token and authority by which the API server is asked for that id."""
    batch_interval_seconds: float = Field(default=1.0, gt=0, le=3600)
    poll_interval_seconds: float = Field(default=0.2, gt=0, le=60)
    """How often the runtime is asked for its containers."""
    max_batch_accesses: int = Field(default=2000, gt=0)
    max_pending_accesses: int = Field(default=500_000, gt=0)
    """Accesses of one container kept while Kafka is away; what exceeds it is counted as loss."""
    max_pending_mib: int = Field(default=48, gt=0)
    """Memory for the accesses that wait, of all containers together."""
    spool_dir: Path | None = None
    """Where batches wait for Kafka, and the cluster's id is kept; unset, they wait in memory,
    within the bounds above."""
    spool_mib: int = Field(default=512, gt=0)
    max_cpu_cores: float = Field(default=0.8, gt=0)
    """Share of a core above which the collector reads less often; what does not fit between two
    readings is counted as loss."""
    hold_seconds: float = Field(default=30.0, gt=0)
    """How long events wait for their container to become known."""
    hold_events: int = Field(default=200_000, gt=0)
    hold_mib: int = Field(default=32, gt=0)
    ring_buffer_mib: int = Field(default=8, gt=0, le=1024)
    """A power of two."""
    dedup_entries: int = Field(default=262_144, gt=0)
    probe_object: Path | None = None
    """A compiled probe; beside its source, built when missing, unless set."""
    host_proc: Path = Path("/proc")
    """The host's /proc: of its process 1, not of this container's."""
    host_process: HostProcess = "auto"
    """Whose mount namespace is the host's: ``auto`` refuses to start when that is not certain,
    ``self`` takes the collector's own, on the operator's word."""
    source: Literal["auto", "core", "bcc", "replay"] = "auto"
    """``auto``: ``replay`` when a recording is given, else ``core`` where the kernel has BTF, else
    ``bcc``."""
    record_to: Path | None = None
    """Writes what the source delivers to this file too."""
    replay_from: Path | None = None
    cgroup_root: Path | None = None
    """Where the cgroup v2 hierarchy is mounted; found in the mount table unless set."""
