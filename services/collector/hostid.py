"""The name of this host among those that share its Kafka, where there is no cluster to be of.

``<name>-<ten digits>``: the digits are made of systemd's machine-id, the UUID that the firmware
gives (of a virtual machine the hypervisor, also to a clone) and the host's own name. All three stay
over a reboot, and one that differs is enough. Clones that have all of them alike are told apart by
``VEXSTREAM_NODE_NAME`` alone, which goes in front where it is set.
"""

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from services.collector.errors import ClusterUnknownError
from services.collector.host import host_process
from services.collector.names import open_in_root
from services.collector.settings import CollectorSettings

_MACHINE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}\Z")
_FILES = ("etc/machine-id", "sys/class/dmi/id/product_uuid", "etc/hostname")
_MAX_BYTES = 256
_LABEL_CHARACTERS = 40


def host_name(settings: CollectorSettings) -> str:
    """The name, the same at every start.

    Raises:
        ClusterUnknownError: nothing here is surely this host's alone.
        ProbeError: the host's files cannot be told from a container's.
    """
    root = host_process(settings.host_proc, settings.host_process) / "root"
    machine, firmware, name = (_read(root, file) for file in _FILES)
    given = settings.node_name if "node_name" in settings.model_fields_set else ""
    if not _MACHINE_ID.match(machine):
        machine = ""
    if not machine and not given:
        raise ClusterUnknownError(
            "this host has no /etc/machine-id to be told by from others on its Kafka: set "
            "VEXSTREAM_NODE_NAME to a name that no other has, VEXSTREAM_CLUSTER_NAME to that of "
            "the cluster that it is in, or to - where it is the only one"
        )
    digits = hashlib.sha256("\n".join((machine, firmware, name)).encode()).hexdigest()[:10]
    return f"{_label(given or name)}-{digits}"


def _label(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "-", name)[:_LABEL_CHARACTERS].strip("-") or "host"


def _read(root: Path, name: str) -> str:
    """What a file of the host says; empty where there is none. Its links lead within the host."""
    with suppress(OSError):
        top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = open_in_root(top, os.fsencode(name), os.O_RDONLY | os.O_NONBLOCK)
        finally:
            os.close(top)
        try:
            return os.read(found, _MAX_BYTES).decode("ascii", "replace").strip().lower()
        finally:
            os.close(found)
    return ""
