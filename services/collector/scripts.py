"""Which files a ``#!`` script's execution used, from the name that it was executed by.

The kernel has closed the script when its interpreter starts, and keeps its name only. The name is
resolved as the kernel would, in the root of the process, while that is still there; afterwards it
is taken as it is.
"""

from collections import OrderedDict
from pathlib import Path

from services.collector.events import FileEvent, ScriptEvent
from services.collector.names import ContainerView, NotResolvedError

_REMEMBERED = 4096
_PER_DRAIN = 256
"""Resolutions between two drains; a storm of scripts has mostly been seen before."""


class ScriptResolver:
    """Turns executions of scripts into uses of files."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._known: OrderedDict[tuple[int, bytes], None] = OrderedDict()
        self._left = _PER_DRAIN

    def rest(self) -> None:
        """A drain is over."""
        self._left = _PER_DRAIN

    def resolve(self, event: ScriptEvent) -> list[FileEvent]:
        """The scripts of the chain. None is named twice for the same cgroup if it is absolute."""
        key = (event.cgroup, event.path)
        if key in self._known:
            self._known.move_to_end(key)
            return []
        found = self._look_up(event) if self._left > 0 else None
        if found is not None and event.path.startswith(b"/"):
            self._known[key] = None
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if found is not None:
            return found
        return [event.as_written()] if event.path.startswith(b"/") else []

    def _look_up(self, event: ScriptEvent) -> list[FileEvent] | None:
        """None when the process is gone, or too much was asked for."""
        self._left -= 1
        try:
            view = ContainerView(self._proc, event.pid)
        except NotResolvedError:
            return None
        try:
            used = view.scripts(event.pid, event.path)
        except NotResolvedError:
            return None
        finally:
            view.close()
        root = view.root
        return [
            FileEvent(event.cgroup, path, use, root.device, root, True, True, event.pid)
            for path, use in used
        ]
