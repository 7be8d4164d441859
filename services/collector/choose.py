"""Which event source this machine permits."""

from pathlib import Path

import structlog

from services.collector.bcc_source import BccSource
from services.collector.build import find_probe
from services.collector.cgroups import CgroupIndex, find_root
from services.collector.errors import ProbeError
from services.collector.settings import CollectorSettings
from services.collector.source import CoreSource, EventSource

log = structlog.get_logger()

BTF = Path("/sys/kernel/btf/vmlinux")


def started_source(settings: CollectorSettings, btf: Path = BTF) -> EventSource:
    """The source that the settings name, or the best that can be started.

    Raises:
        ProbeError: none can; the text says why for each.
    """
    if settings.source == "bcc":
        return _bcc(settings, "VEXSTREAM_SOURCE=bcc")
    if settings.source == "core":
        return _core(settings, "VEXSTREAM_SOURCE=core")
    if not btf.exists():
        return _bcc(settings, f"{btf} is missing: a kernel without BTF")
    try:
        return _core(settings, f"{btf} is there")
    except ProbeError as error:
        try:
            return _bcc(settings, f"core cannot be used: {str(error).splitlines()[0]}")
        except ProbeError as other:
            raise ProbeError(f"core: {error}\nbcc: {other}") from other


def _core(settings: CollectorSettings, why: str) -> EventSource:
    source = CoreSource(
        find_probe(settings.probe_object),
        ring_buffer_bytes=settings.ring_buffer_mib << 20,
        dedup_entries=settings.dedup_entries,
        host_proc=settings.host_proc,
        host_process=settings.host_process,
    )
    source.start()
    log.info("event source chosen", source=source.name, why=why)
    return source


def _bcc(settings: CollectorSettings, why: str) -> EventSource:
    index = CgroupIndex(find_root(settings.cgroup_root))
    source = BccSource(settings.host_proc, index, host_process=settings.host_process)
    source.start()
    log.info("event source chosen", source=source.name, why=why)
    return source
