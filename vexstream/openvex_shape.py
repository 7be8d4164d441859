"""Whether JSON has the form of our OpenVEX documents: files come from anywhere. Pure."""

from typing import Any

_COMPONENT = {"@id": str, "identifiers?": {"purl?": str}}
_STATEMENT = {
    "vulnerability": {"name": str, "aliases?": [str]},
    "products": [{"@id": str, "subcomponents": [_COMPONENT]}],
    "status": str,
    "timestamp?": str,
    "justification?": str,
    "impact_statement?": str,
    "status_notes?": str,
    "action_statement?": str,
}
_DOCUMENT = {
    "@id": str,
    "author": str,
    "timestamp": str,
    "version": int,
    "tooling?": str,
    "statements": [_STATEMENT],
}
_NAMES = {str: "text", int: "a number"}


def flaw(document: Any) -> str | None:
    """Where a document has another form, in words; None where it has that form."""
    return _flaw(document, _DOCUMENT, "")


def _flaw(value: Any, shape: Any, where: str) -> str | None:
    if isinstance(shape, dict):
        return _flaw_of_object(value, shape, where)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{where} is no list"
        found = (_flaw(item, shape[0], f"{where}[{n}]") for n, item in enumerate(value))
        return next((flaw for flaw in found if flaw), None)
    right = isinstance(value, shape) and not isinstance(value, bool)
    return None if right else f"{where} is not {_NAMES[shape]}"


def _flaw_of_object(value: Any, shape: dict[str, Any], where: str) -> str | None:
    if not isinstance(value, dict):
        return f"{where or 'the whole'} is no object"
    for key, inner in shape.items():
        name = key.removesuffix("?")
        if name in value:
            found = _flaw(value[name], inner, f"{where}.{name}".lstrip("."))
        else:
            found = f"{where}.{name} is missing".lstrip(".") if name == key else None
        if found:
            return found
    return None
