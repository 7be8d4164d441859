"""Fields of a report that another program wrote: empty where they are missing, and an error where
they are something else than they should be."""

from collections.abc import Mapping
from typing import Any


class Fields:
    """Of one kind of report: ``where`` goes behind a field's name in the error."""

    def __init__(self, where: str, error: type[ValueError]) -> None:
        self._where = where
        self._error = error

    def text(self, record: Mapping[str, Any], name: str) -> str:
        """Raises the error: it is no text."""
        value = record.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._error(f"{name!r} {self._where} is no text")
        return value

    def mapping(self, record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        """Raises the error: it is no object."""
        value = record.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._error(f"{name!r} {self._where} is no object")
        return value

    def items(self, record: Mapping[str, Any], name: str) -> list[Any]:
        """Raises the error: it is no list."""
        value = record.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._error(f"{name!r} {self._where} is no list")
        return value
