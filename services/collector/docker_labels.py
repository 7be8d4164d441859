"""Whose a container of an engine with Docker's interface is, by its labels and its name.

Whoever starts a container may label it as anything, and its image brings labels of its own
(``docker commit`` writes those of a service into one). A container that passed for another
workload's would speak for that one, of which perhaps nothing was seen. So labels are believed where
the name fits them, which no image brings; those of Compose also where they are surely not the
image's, for a service may have a name of its own choice. Else it is a workload of its own, which
asks for more evidence.

Sources: Compose, ``pkg/api/labels.go`` and ``getContainerName``; cri-dockerd, ``core/naming.go``.
"""

import re
from collections.abc import Mapping

from services.collector.runtime import workload_of
from vexstream.identity import Workload

_PROJECT, _SERVICE = "com.docker.compose.project", "com.docker.compose.service"
_ONE_OFF = "com.docker.compose.oneoff"
_POD = "io.kubernetes.container.name", "io.kubernetes.pod.name", "io.kubernetes.pod.namespace"


def workload(
    labels: Mapping[str, str], name: str, brought: Mapping[str, str] | None = None
) -> Workload:
    """The workload of a container; ``brought`` are its image's labels, where they are known."""
    if _is_of_pod(labels, name):
        return workload_of(dict(labels), {}, name, 0)
    if not _is_of_service(labels, name, brought):
        return Workload("", name, name)
    service = labels[_SERVICE]
    # What ``compose run`` does is another program's work than the service's.
    container = f"{service}:run" if labels.get(_ONE_OFF, "").lower() == "true" else service
    return Workload(labels.get(_PROJECT, ""), service, container)


def _is_of_pod(labels: Mapping[str, str], name: str) -> bool:
    """cri-dockerd names them so."""
    return name.split("_")[:4] == ["k8s", *(labels.get(label, "") for label in _POD)]


def _is_of_service(labels: Mapping[str, str], name: str, brought: Mapping[str, str] | None) -> bool:
    project, service = labels.get(_PROJECT, ""), labels.get(_SERVICE, "")
    if not service:
        return False
    of = f"{re.escape(project)}[-_]{re.escape(service)}"
    if re.fullmatch(rf"{of}[-_](?:\d+|run[-_][0-9a-f]+)", name):
        return True
    claimed = ((label, labels.get(label)) for label in (_PROJECT, _SERVICE, _ONE_OFF))
    return brought is not None and not any(
        value is not None and brought.get(label) == value for label, value in claimed
    )
