"""What an OpenVEX document of ours says, for those who write it in another format. Pure.

Only what vexstream/openvex.py writes is understood: every statement names its package as
subcomponents, with its architecture under those products that other images share.
"""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from vexstream.openvex_shape import flaw
from vexstream.status import Status


class UnreadableDocumentError(ValueError):
    """The document is no OpenVEX document of this form."""


@dataclass(frozen=True, slots=True)
class Component:
    """A package as it is named in a document.

    ``scanned`` is its purl exactly as Syft wrote it, where the document carries it; ``spellings``
    are those that match it by the rules of purls.
    """

    spellings: tuple[str, ...]
    scanned: str | None

    @property
    def purls(self) -> tuple[str, ...]:
        """All purls, the exact one first."""
        return tuple(dict.fromkeys((*([self.scanned] if self.scanned else []), *self.spellings)))

    @property
    def kind(self) -> str:
        """The purl's type, such as ``deb``."""
        return self.spellings[0].removeprefix("pkg:").partition("/")[0]

    @property
    def namespace(self) -> str:
        """What stands between type and name in the purl; may be empty."""
        return unquote("/".join(self._path[1:-1]))

    @property
    def name(self) -> str:
        """The package's name."""
        return unquote(self._path[-1].partition("@")[0])

    @property
    def version(self) -> str:
        """The package's version; may be empty."""
        return unquote(self._path[-1].partition("@")[2])

    @property
    def title(self) -> str:
        """For a person: name, version, kind."""
        return f"{self.name} {self.version} ({self.kind})" if self.version else self.name

    @property
    def _path(self) -> list[str]:
        return self.spellings[0].partition("?")[0].removeprefix("pkg:").split("/")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; texts that it does not have are empty.

    ``component`` is its package as it is named without architecture, ``named`` how each product
    names it.
    """

    vulnerability: str
    aliases: tuple[str, ...]
    component: Component
    named: tuple[tuple[str, Component], ...]
    status: str
    justification: str
    text: str
    action: str
    timestamp: str


@dataclass(frozen=True, slots=True)
class Document:
    """A whole document. ``products`` are the purls of the image."""

    id: str
    author: str
    tooling: str
    timestamp: str
    version: int
    products: tuple[str, ...]
    statements: tuple[Statement, ...]


def read(document: bytes) -> Document:
    """Reads a document.

    Raises:
        UnreadableDocumentError: it is none, or none of this form.
    """
    try:
        whole = json.loads(document)
        if wrong := flaw(whole) or (None if whole["statements"] else "it says nothing"):
            raise UnreadableDocumentError(f"this is no OpenVEX document of vexstream: {wrong}")
        statements = tuple(_statement(statement) for statement in whole["statements"])
        products = [p["@id"] for s in whole["statements"] for p in s["products"]]
        return Document(
            id=whole["@id"],
            author=whole["author"],
            tooling=whole.get("tooling", ""),
            timestamp=whole["timestamp"],
            version=whole["version"],
            products=tuple(dict.fromkeys(products)),
            statements=statements,
        )
    except UnreadableDocumentError:
        raise
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise UnreadableDocumentError(
            f"this is no OpenVEX document as vexstream writes them: {type(error).__name__}: {error}"
        ) from error


def _statement(statement: dict[str, Any]) -> Statement:
    vulnerability = statement["vulnerability"]
    named = tuple((p["@id"], _component(p["subcomponents"])) for p in statement["products"])
    return Statement(
        vulnerability=vulnerability["name"],
        aliases=tuple(vulnerability.get("aliases", ())),
        component=min((component for _, component in named), key=lambda c: len(c.spellings[0])),
        named=named,
        status=Status(statement["status"]).value,
        justification=statement.get("justification", ""),
        text=" ".join(
            statement[part] for part in ("impact_statement", "status_notes") if statement.get(part)
        ),
        action=statement.get("action_statement", ""),
        timestamp=statement["timestamp"],
    )


def _component(subcomponents: list[dict[str, Any]]) -> Component:
    return Component(
        spellings=tuple(component["@id"] for component in subcomponents),
        scanned=subcomponents[0].get("identifiers", {}).get("purl"),
    )
