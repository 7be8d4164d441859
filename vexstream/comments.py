"""What people note about statements: it changes no status, that is what decisions are for."""

from dataclasses import dataclass

from vexstream.identity import Digest

MAX_TEXT = 10_000


@dataclass(frozen=True, slots=True)
class Comment:
    """One comment; schemas/statement-comment.avsc explains every field."""

    config_digest: Digest
    vulnerability: str
    package: str
    text: str
    author: str
    source_id: str
    written_at_us: int

    @property
    def key(self) -> bytes:
        """Key of the Kafka record: another one for every comment."""
        return (
            f"{self.config_digest}|{self.vulnerability}|{self.package}|{self.written_at_us}|"
            f"{self.source_id}"
        ).encode()


def problem(comment: Comment) -> str | None:
    """Why the comment cannot be used; None when it can."""
    if not comment.author.strip():
        return "it has no author: say who writes"
    if not comment.text.strip():
        return "it has no text"
    if len(comment.text) > MAX_TEXT:
        return f"it has more than {MAX_TEXT} characters"
    return None
