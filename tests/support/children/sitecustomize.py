"""Keeps every document that a process which a test starts makes, so that the test can check it.

Python imports this file at its start where PYTHONPATH has this folder: that is set by
``tests/support/validity.py``, which reads the folder that VEXSTREAM_TEST_DOCUMENTS names.
"""

import functools
import os
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_MAKERS = {"vexstream.openvex": "render", "vexstream.merge": "merge_documents"}


class _KeepingLoader(Loader):
    """Loads the module, and has its maker of documents keep them."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        name = _MAKERS[module.__name__]
        make = getattr(module, name)

        @functools.wraps(make)
        def keeping(*arguments: Any) -> bytes:
            document: bytes = make(*arguments)
            _keep(document, name)
            return document

        setattr(module, name, keeping)


class _Finder(MetaPathFinder):
    """Finds the two modules that make documents."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name in _MAKERS else None
        if spec is not None and spec.loader is not None:
            spec.loader = _KeepingLoader(spec.loader)
        return spec


def _keep(document: bytes, maker: str) -> None:
    from hashlib import sha256

    name = f"{sha256(document).hexdigest()}.{maker}"
    path = os.path.join(os.environ["VEXSTREAM_TEST_DOCUMENTS"], name)
    if not os.path.exists(path):
        with open(f"{path}.{os.getpid()}", "wb") as file:
            file.write(document)
        os.replace(file.name, path)


if "VEXSTREAM_TEST_DOCUMENTS" in os.environ:
    sys.meta_path.insert(0, _Finder())
