"""Pods and containers described to CRI the way kubelet does it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cri_api.v1 import api_pb2 as cri

from services.local import containerd_cgroups


@dataclass(frozen=True, slots=True)
class Mount:
    """A host path shown inside a container, or an image by its name."""

    host: Path | None
    container: str
    readonly: bool = False
    image: str = ""


def pod_config(
    name: str, namespace: str, uid: str, logs: Path, annotations: Mapping[str, str] | None = None
) -> Any:
    """A pod on the host's network."""
    host = cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER, ipc=cri.POD)
    return cri.PodSandboxConfig(
        metadata=cri.PodSandboxMetadata(name=name, namespace=namespace, uid=uid),
        labels=_labels(name, namespace, uid),
        annotations=annotations,
        log_directory=str(logs),
        linux=cri.LinuxPodSandboxConfig(
            cgroup_parent=containerd_cgroups.parent(uid),
            security_context=cri.LinuxSandboxSecurityContext(namespace_options=host),
        ),
    )


def container_config(
    image: str,
    name: str,
    pod: Any,
    args: Sequence[str],
    env: Mapping[str, str],
    mounts: Sequence[Mount],
) -> Any:
    """A container of the pod, with its labels."""
    return cri.ContainerConfig(
        metadata=cri.ContainerMetadata(name=name),
        image=cri.ImageSpec(image=image),
        args=list(args),
        envs=[cri.KeyValue(key=key, value=value) for key, value in env.items()],
        mounts=[
            cri.Mount(
                host_path=str(mount.host or ""),
                container_path=mount.container,
                readonly=mount.readonly,
                image=cri.ImageSpec(image=mount.image) if mount.image else None,
            )
            for mount in mounts
        ],
        labels=dict(pod.labels) | {"io.kubernetes.container.name": name},
        log_path=f"{name}.log",
        linux=cri.LinuxContainerConfig(
            security_context=cri.LinuxContainerSecurityContext(
                namespace_options=pod.linux.security_context.namespace_options
            )
        ),
    )


def _labels(name: str, namespace: str, uid: str) -> dict[str, str]:
    return {
        "io.kubernetes.pod.name": name,
        "io.kubernetes.pod.namespace": namespace,
        "io.kubernetes.pod.uid": uid,
    }
