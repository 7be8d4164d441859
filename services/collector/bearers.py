"""Names that containers bear one after another, as those of plain containerd.

The first one that is known goes by its name, those that follow by ``<name>#2``, ``#3``. No name
holds a ``#``. Other runtimes give each container an id of its own.
"""

from collections.abc import Iterable


def bears_name(container_id: str) -> bool:
    """Another container may come by the same name."""
    return "/" in container_id


def name_of(container_id: str) -> str:
    """What the runtime, and the path of its cgroup, call it."""
    return container_id.partition("#")[0]


def next_of(bearers: Iterable[str]) -> str:
    """One more that bears the name of these."""
    counts = [(int(one.partition("#")[2] or 1), name_of(one)) for one in bearers]
    last, name = max(counts)
    return f"{name}#{last + 1}"
