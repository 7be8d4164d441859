"""Gives up the capabilities that only loading the probe needed."""

import ctypes
import os

import structlog

log = structlog.get_logger()

_DAC_READ_SEARCH, _SYS_PTRACE = 2, 19
KEPT = 1 << _DAC_READ_SEARCH | 1 << _SYS_PTRACE
"""For /proc of other processes, and for the roots of containers."""
_VERSION_3 = 0x20080522
_PR_SET_NO_NEW_PRIVS = 38
_Header = ctypes.c_uint32 * 2
_Data = ctypes.c_uint32 * 6


def drop() -> None:
    """For this thread and those that it starts from now on. What cannot be dropped is logged."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(_VERSION_3, 0), _Data()
    if libc.capget(header, data):
        log.warning("capabilities cannot be read", error=os.strerror(ctypes.get_errno()))
        return
    # Two sets of (effective, permitted, inheritable), for the lower and the upper 32 bits.
    kept = _Data(data[0] & KEPT, data[1] & KEPT, 0, 0, 0, 0)
    if libc.capset(header, kept) or libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        log.warning("capabilities cannot be dropped", error=os.strerror(ctypes.get_errno()))
        return
    log.info("capabilities dropped", kept="CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE")
