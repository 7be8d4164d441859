"""Which cluster the workloads of this node belong to.

Equal names in two clusters that share one Kafka would be one workload, and what was seen whole in
one would speak for the other. So the cluster goes before every namespace: by the name it was given,
or in Kubernetes by the UID of the namespace ``kube-system``, which is read once at the start and
kept beside the spool. Until it is known the containers are observed, and nothing is said of them.
Elsewhere every host is a cluster of its own, unless they were given one name.
"""

import asyncio
import contextlib
import http.client
import json
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from services.collector.errors import ClusterUnknownError
from services.collector.hostid import host_name
from services.collector.settings import CollectorSettings
from vexstream.evidence import Batch

log = structlog.get_logger()

BARE = "-"
"""The name that says: this is the only cluster of its Kafka, whose workloads need none."""
_UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
_PATH = "/api/v1/namespaces/kube-system"
_FILE = "cluster"
_ANSWER_SECONDS = 10.0
_RETRY_SECONDS = 5.0


@dataclass(slots=True)
class Cluster:
    """``name`` is empty where workloads bear none, and None while it is not known."""

    name: str | None = ""

    def placed(self, batch: Batch) -> Batch:
        """The batch with the cluster before its workload's namespace."""
        if self.name is None:
            raise ValueError("nothing can be said before the cluster is known")
        if not self.name:
            return batch
        namespace = "/".join(filter(None, (self.name, batch.workload.namespace)))
        return replace(batch, workload=replace(batch.workload, namespace=namespace))


def given(settings: CollectorSettings) -> Cluster:
    """As the settings say; none where they say nothing."""
    return Cluster(settings.cluster_name.removeprefix(BARE))


def named(settings: CollectorSettings, environment: Mapping[str, str] = os.environ) -> Cluster:
    """As the settings say. Where they say nothing: not known yet in Kubernetes, else this host.

    Raises:
        ClusterUnknownError: nothing tells this host from others.
        ProbeError: nothing tells this host from a container.
    """
    if settings.cluster_name:
        return given(settings)
    if environment.get("KUBERNETES_SERVICE_HOST"):
        return Cluster(None)
    name = host_name(settings)
    log.info("cluster", id=name, by="this host alone; VEXSTREAM_CLUSTER_NAME joins several")
    return Cluster(name)


async def find(
    cluster: Cluster,
    settings: CollectorSettings,
    problems: dict[str, str],
    retry_seconds: float = _RETRY_SECONDS,
) -> None:
    """Learns which cluster it is; asks until there is an answer, or one of an earlier start."""
    if cluster.name is None:
        problems["cluster"] = "not known yet"
    while cluster.name is None:
        try:
            cluster.name = await asyncio.to_thread(_ask, settings)
        except ClusterUnknownError as error:
            cluster.name = _kept(settings)
            said = {"error": str(error), "cluster": cluster.name}
            if cluster.name:
                log.warning("the API server does not say which cluster this is; an earlier start "
                            "knew it", **said)  # fmt: skip
                break
            problems["cluster"] = str(error)
            log.error("containers are observed, but nothing is said of them until it is known "
                      "which cluster this is; trying again", **said)  # fmt: skip
            await asyncio.sleep(retry_seconds)
        else:
            _keep(settings, cluster.name)
            log.info("cluster", id=cluster.name, by="UID of the namespace kube-system")
    problems.pop("cluster", None)


def _ask(settings: CollectorSettings) -> str:
    account = settings.kubernetes_account_dir
    try:
        connection = http.client.HTTPSConnection(
            os.environ["KUBERNETES_SERVICE_HOST"],
            int(os.environ["KUBERNETES_SERVICE_PORT"]),
            timeout=_ANSWER_SECONDS,
            context=ssl.create_default_context(cafile=str(account / "ca.crt")),
        )
        with contextlib.closing(connection):
            token = (account / "token").read_text().strip()
            connection.request("GET", _PATH, headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"the API server answers {answer.status} {answer.reason}")
            uid = json.load(answer)["metadata"]["uid"]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise ClusterUnknownError(
            f"the namespace kube-system cannot be read: {type(error).__name__}: {error}. Let the "
            "collector's account get it, and its pod reach the API server "
            "(deploy/kustomize/base/collector.yaml), or set VEXSTREAM_CLUSTER_NAME"
        ) from error
    if not isinstance(uid, str) or not _UID.match(uid):
        raise ClusterUnknownError(f"the UID of the namespace kube-system is {uid!r:.80}")
    return uid


def _kept(settings: CollectorSettings) -> str | None:
    if settings.spool_dir is None:
        return None
    with contextlib.suppress(OSError, ValueError):
        uid = (settings.spool_dir / _FILE).read_text().strip()
        return uid if _UID.match(uid) else None
    return None


def _keep(settings: CollectorSettings, uid: str) -> None:
    if settings.spool_dir is None:
        return
    path = settings.spool_dir / _FILE
    fresh = Path(f"{path}.new")
    try:
        fresh.write_text(f"{uid}\n")
        fresh.replace(path)
    except OSError as error:
        log.warning("the cluster cannot be kept for the next start", error=str(error))
