"""Which files a ``#!`` script's execution used, from the name that it was executed by, and which
ones on volumes an interpreter was told to run.

The kernel has closed the script when its interpreter starts, and keeps its name only. The name is
resolved as the kernel would, in the root of the process, while that is still there; afterwards it
is taken as it is.

What an interpreter opens on its root file system is told anyway, and on a volume what is code by
its name. The rest there is data, but for what its arguments name: ``node /data/tool``.
"""

import posixpath
import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.collector.events import ArgumentsEvent, ExecEvent, FileEvent, ScriptEvent
from services.collector.names import ContainerView, NotResolvedError
from vexstream.evidence import Use

_REMEMBERED = 4096
_PER_DRAIN = 256
"""Resolutions between two drains; a storm of scripts has mostly been seen before."""


_SHELL = re.compile(rb"-?(?:ba|da|a|z|k|mk)?sh\Z")
_NO_SCRIPTS = re.compile(rb"(?:java|dotnet|mono|beam|ld)(?![a-zA-Z_])")
"""Interpreters of files that have suffixes."""
_CODE = {
    # How the option ends that has the code itself, or the name of a module: no file follows.
    b"sh": re.compile(rb"[-+][a-zA-Z]*c[a-zA-Z]*\Z"),
    b"python": re.compile(rb"-[a-zA-Z]*[cm]\Z"),
    b"": re.compile(rb"-[^-].*[eE]\Z|-[eEpr]\Z|--(?:eval|print)\b"),
}
_LOADED = re.compile(rb"--(?:require|import|preload|loader|experimental-loader|eval-file)=(.+)",
                     re.DOTALL)  # fmt: skip
_RUN = {
    b"node": frozenset([b"inspect", b"debug"]),
    b"deno": frozenset([b"run", b"watch", b"serve", b"test", b"bench"]),
    b"bun": frozenset([b"run"]),
}
"""Commands of the interpreter itself, by ``--help`` of Node 20, Deno 2.9 and Bun 1.4: a file to run
follows. ``bun test`` takes none without a suffix."""
_RUN_NONE = {
    b"deno": frozenset(
        b"eval fmt lint upgrade cache check info doc task compile coverage repl install i uninstall"
        b" types completions init create jupyter publish add remove outdated update deploy sandbox"
        b" clean list link unlink approve-scripts lsp vendor bundle audit why transpile ci desktop"
        b" bump-version pack x help".split()
    ),
    b"bun": frozenset(
        b"test check fmt x repl exec install i ci add a remove rm update audit dedupe prune link"
        b" outdated unlink publish patch patch-commit pm info why build init create c upgrade"
        b" completions help".split()
    ),
}
"""So are these, and what follows is no file, or none that runs."""


def told_to_run(words: Sequence[bytes]) -> Iterator[bytes]:
    """The arguments of an interpreter that may name a file to run, which has no suffix: the first
    one that is neither option nor command, and those before it that may be an option's."""
    program = posixpath.basename(words[0]).removesuffix(b".exe") if words else b""
    if _NO_SCRIPTS.match(program):
        return
    kind = b"sh" if _SHELL.match(program) else b"python" if b"py" in program else b""
    after_option, commands = False, _RUN.get(program, frozenset())
    for word in words[1:]:
        option = word.startswith((b"-", b"+"))
        if option:
            if _CODE[kind].match(word):
                return
            loaded = _LOADED.match(word)
            word = loaded[1] if loaded else b""
        elif word in commands:
            after_option, commands = False, frozenset()
            continue
        elif commands and not after_option and word in _RUN_NONE.get(program, ()):
            return
        if word and b"." not in posixpath.basename(word):
            yield word
        if not option and not after_option:
            return
        after_option = option


class ScriptResolver:
    """Turns executions of scripts, and of interpreters, into uses of files."""

    def __init__(self, proc: Path) -> None:
        self._proc = proc
        self._known: OrderedDict[tuple[int, bytes | tuple[bytes, ...]], None] = OrderedDict()
        self._left = _PER_DRAIN

    def rest(self) -> None:
        """A drain is over."""
        self._left = _PER_DRAIN

    def resolve(self, event: ExecEvent) -> list[FileEvent]:
        """The scripts of the chain, or those of the arguments. None is named twice for the same
        cgroup if it is absolute."""
        names = told_to_run(event.words) if isinstance(event, ArgumentsEvent) else (event.path,)
        asked = tuple(names)
        key = (event.cgroup, asked if isinstance(event, ArgumentsEvent) else event.path)
        if key in self._known:
            self._known.move_to_end(key)
            return []
        if not asked:
            return []
        found = self._look_up(event, asked) if self._left > 0 else None
        absolute = [name for name in asked if name.startswith(b"/")]
        if found is not None and absolute == list(asked):
            self._known[key] = None
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if found is not None:
            return found
        return [_used(event, name, Use.EXECUTED) for name in absolute]

    def _look_up(self, event: ExecEvent, names: Sequence[bytes]) -> list[FileEvent] | None:
        """None when the process is gone, or too much was asked for."""
        self._left -= 1
        try:
            view = ContainerView(self._proc, event.pid)
        except NotResolvedError:
            return None
        look = view.scripts if isinstance(event, ScriptEvent) else view.volume_file
        try:
            used = [found for name in names for found in look(event.pid, name)]
        except NotResolvedError:
            return None
        finally:
            view.close()
        return [_used(event, path, use) for path, use in used]


def _used(event: ExecEvent, path: bytes, use: Use) -> FileEvent:
    """The use of the file that a name gives when it is taken literally."""
    root = event.root
    return FileEvent(event.cgroup, path, use, root.device, root, True, True, event.pid)
