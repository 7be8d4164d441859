"""The statements of an OpenVEX document, and what changed between two documents. Pure."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from vexstream.document_ids import are_of_one_image
from vexstream.identity import Digest
from vexstream.purl import without_architecture

_REASON = re.compile(r"\[([a-z_]+)\] ?(.*)\Z", re.DOTALL)
_WORST_FIRST = ("affected", "under_investigation", "not_affected", "fixed")


class BadDocumentError(ValueError):
    """The body is no OpenVEX document with statements that can be told apart."""


@dataclass(frozen=True, slots=True)
class IndexedStatement:
    """One statement as it is searched and compared.

    ``package`` is the first of ``packages``, which are spellings of one and the same package.
    """

    vulnerability: str
    aliases: tuple[str, ...]
    package: str
    packages: tuple[str, ...]
    status: str
    justification: str | None
    reason: str | None
    text: str
    action: str | None
    since: str | None
    decided: str | None = None
    """By whom, where a person or a vendor has decided."""

    @property
    def key(self) -> tuple[str, str]:
        """What tells a statement from the others of its document."""
        return self.vulnerability, self.package

    @property
    def package_name(self) -> str:
        """Name of the package without namespace, in lower case: what people search for."""
        path = self.package.partition("#")[0].partition("?")[0].rpartition("/")[2]
        return unquote(path.partition("@")[0]).lower()

    @property
    def lookup(self) -> list[str]:
        """Under which ids it is found, in lower case: CVE, GHSA and the like are one each."""
        return sorted({name.lower() for name in (self.vulnerability, *self.aliases)})


@dataclass(frozen=True, slots=True)
class Difference:
    """What happened from one document to a later one, ordered by vulnerability and package."""

    added: tuple[IndexedStatement, ...]
    removed: tuple[IndexedStatement, ...]
    changed: tuple[tuple[IndexedStatement, IndexedStatement], ...]
    """The statement before and after, where the status or the reason for it is another."""


def statements_of(body: bytes, about: Digest | None = None) -> tuple[IndexedStatement, ...]:
    """The statements, one a vulnerability and package: of several the worst stands.

    Raises:
        BadDocumentError: the body is no OpenVEX document, or by its id is about another image.
    """
    try:
        document = json.loads(body)
        if about is not None and not _may_be_about(document.get("@id"), about):
            raise BadDocumentError(f"the document {document['@id'][:300]!r} is of another image")
        found = [
            _statement(statement, vulnerability, package)
            for statement in document["statements"]
            for vulnerability in [_object(statement["vulnerability"])]
            for package in _packages(statement)
        ]
    except BadDocumentError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BadDocumentError(
            f"the body is no OpenVEX document: {type(error).__name__}: {error}"
        ) from error
    return _merged(found)


def _may_be_about(identifier: Any, digest: Digest) -> bool:
    return not isinstance(identifier, str) or are_of_one_image(f"id:/{digest}", identifier)


def difference(before: Iterable[IndexedStatement], after: Iterable[IndexedStatement]) -> Difference:
    """Compares the statements of two documents of one image."""
    old = {statement.key: statement for statement in before}
    new = {statement.key: statement for statement in after}
    both = sorted(old.keys() & new.keys())
    return Difference(
        added=tuple(new[key] for key in sorted(new.keys() - old.keys())),
        removed=tuple(old[key] for key in sorted(old.keys() - new.keys())),
        changed=tuple(
            (old[key], new[key]) for key in both if _verdict(old[key]) != _verdict(new[key])
        ),
    )


def _verdict(statement: IndexedStatement) -> tuple[str, str | None, str | None]:
    return statement.status, statement.justification, statement.reason


def _statement(
    statement: Mapping[str, Any], vulnerability: Mapping[str, Any], packages: Sequence[str]
) -> IndexedStatement:
    notes = statement.get("status_notes") or ""
    noted = _REASON.match(notes)
    status = str(statement["status"])
    if status not in _WORST_FIRST:
        raise BadDocumentError(f"{status[:80]!r} is no status")
    return IndexedStatement(
        vulnerability=str(vulnerability["name"]),
        aliases=tuple(str(alias) for alias in vulnerability.get("aliases") or ()),
        package=packages[0],
        packages=tuple(packages),
        status=status,
        justification=statement.get("justification"),
        reason=noted[1] if noted else None,
        text=str(statement.get("impact_statement") or (noted[2] if noted else notes)),
        action=statement.get("action_statement"),
        since=statement.get("timestamp"),
        decided=noted[2] if noted and noted[1] == "decided" else None,
    )


def _packages(statement: Mapping[str, Any]) -> list[list[str]]:
    """The spellings of each package a statement is about; every product lists the same.

    But for the architecture: only a digest that several images share has it.
    """
    spelled = {
        tuple(
            without_architecture(str(component["@id"]))
            for component in product.get("subcomponents") or ()
        )
        for product in statement["products"]
    }
    found = [list(spellings) for spellings in sorted(spelled) if spellings]
    if not found:
        raise BadDocumentError("a statement names no package: it would hold for all of them")
    return found


def _object(value: Any) -> Mapping[str, Any]:
    return {"name": value} if isinstance(value, str) else value


def _merged(statements: Iterable[IndexedStatement]) -> tuple[IndexedStatement, ...]:
    worst: dict[tuple[str, str], IndexedStatement] = {}
    for statement in statements:
        known = worst.get(statement.key)
        if known is None or _rank(statement) < _rank(known):
            worst[statement.key] = statement
    return tuple(worst[key] for key in sorted(worst))


def _rank(statement: IndexedStatement) -> int:
    return _WORST_FIRST.index(statement.status)
