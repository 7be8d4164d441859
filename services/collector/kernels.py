"""Which OCI runtimes run containers as processes of the node's own kernel.

What is not named here may bring a kernel of its own: gVisor's and Kata's shims, a monitor that is
started in the container's namespaces (urunc), or another program by the name of runc's shim, which
takes any.
"""

import posixpath

_SHIMS = {"io.containerd.runc.v1", "io.containerd.runc.v2"}
_PROGRAMS = {"runc", "crun", "youki", "nvidia-container-runtime"}


def is_native(program: str) -> bool:
    """A runtime by this name, or path."""
    return posixpath.basename(program) in _PROGRAMS


def is_native_shim(shim: str, program: str) -> bool:
    """containerd runs containers by this shim, which is told to start this program; empty where it
    is left to it."""
    return shim in _SHIMS and (not program or is_native(program))
