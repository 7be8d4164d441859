"""``vexstream verify``, ``attach`` and ``link``: signatures, registries and SBOMs.

Exit status: 0 done; 1 it does not verify, or is about something else; 2 the command line is wrong;
3 there is no such document or image; 4 the API or the registry cannot be used.
"""

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import unquote, urlsplit

import typer

from services.cli_read import LOCAL, Token
from services.terminal import plain

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from services.publish.attach import Attached
    from services.publish.registry import Manifest, RegistryClient
    from vexstream.intoto import Attested

TIMEOUT_S = 60.0
REFUTED, WRONG_USE, ABSENT, UNUSABLE = 1, 2, 3, 4
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

ApiUrl = Annotated[
    str, typer.Option("--url", envvar="VEXSTREAM_URL", help="Where the API is; a token goes there")
]


@dataclass(frozen=True, slots=True)
class _Api:
    """Where the API is, and the token for it, which goes nowhere else."""

    url: str
    token: str | None

    def headers(self, address: str) -> dict[str, str]:
        """What goes along with a request to an address."""
        there = urlsplit(address)[:2] == urlsplit(self.url)[:2]
        return {"Authorization": f"Bearer {self.token}"} if self.token and there else {}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (verify, attach, link):
        app.command()(command)


def verify(
    target: Annotated[
        str, typer.Argument(help="File or URL: a document, a Sigstore bundle or a DSSE envelope")
    ],
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="Trusted public key in PEM; repeatable")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(help="Keyless: who must have signed, as in the certificate")
    ] = None,
    issuer: Annotated[
        str | None, typer.Option(help="Keyless: the OIDC issuer of that identity")
    ] = None,
    trust_config: Annotated[
        Path | None,
        typer.Option(
            envvar="VEXSTREAM_SIGSTORE_TRUST_CONFIG",
            help="Keyless: trust configuration of a Sigstore [the public one]",
        ),
    ] = None,
    attestation: Annotated[
        str | None,
        typer.Option(help="Attestation of the document [TARGET/attestation of a URL]"),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(help="Digest of the image it must be about, as one in a URL; repeatable"),
    ] = None,
    url: ApiUrl = LOCAL,
    token: Token = None,
) -> None:
    """Check who signed a document, and of which image it is.

    A trusted key or identity must have signed it, byte for byte.

    Exit status: 0 it is verified, 1 it is not, 2 wrong usage, or a key or file cannot be read,
    3 there is no document at the address, 4 the address cannot be used.
    """
    from services.publish.errors import SigningKeyError, VerificationError

    asked, api = _asked(target, image or []), _Api(url, token)
    try:
        check = _check(key or [], identity, issuer, trust_config)
    except SigningKeyError as error:
        _fail(WRONG_USE, str(error))
    content = _load(target, api)
    document = content if _is_document(content) else None
    if document is not None:
        content = _load(attestation or _attestation_of(target), api)
    elif attestation is not None:
        raise typer.BadParameter("TARGET is an attestation itself; leave out --attestation")
    try:
        attested, signed_by = check(content)
    except SigningKeyError as error:
        _fail(WRONG_USE, str(error))
    except VerificationError as error:
        _fail(REFUTED, f"not verified: {error}")
    if document is not None and document != attested.document:
        _fail(REFUTED, "not verified: the document is not the one that was signed")
    statement = json.loads(attested.document)
    known: set[str] = {subject.digest for subject in attested.subjects}
    known.add(str(statement.get("@id")).rpartition("/")[2])
    if others := asked - known:
        _fail(REFUTED, f"not verified: the signed document is not about {min(others)}")
    subjects = [f"{subject.name}@{subject.digest}" for subject in attested.subjects]
    _report(statement, subjects, signed_by)


def attach(
    image: Annotated[str, typer.Argument(help="Image in a registry: HOST/PATH:TAG or @sha256:...")],
    url: ApiUrl = LOCAL,
    token: Token = None,
    attestation: Annotated[
        str | None, typer.Option(help="File or URL of the attestation [that of the API]")
    ] = None,
    docker_config: Annotated[
        Path | None, typer.Option(help="Docker configuration with the login [as Docker finds it]")
    ] = None,
) -> None:
    """Attach an image's signed document to it in its registry.

    There `trivy --vex oci` finds it.

    Exit status: 0 it is attached, 1 the document is of another image, or what is there outranks it,
    2 wrong usage, 3 there is no such image or document, 4 registry or API cannot be used.
    """
    from services.publish.credentials import DockerConfig
    from services.publish.errors import (
        BadReferenceError,
        NotInRegistryError,
        OutrankedError,
        PublishError,
    )
    from services.publish.reference import parse_reference
    from services.publish.registry import RegistryClient

    try:
        reference = parse_reference(image)
        with RegistryClient(reference.repository, DockerConfig.load(docker_config)) as client:
            manifest = client.manifest(reference.version)
            if attestation is not None:
                done = _attach(client, manifest, attestation, _Api(url, token))
            else:
                done = _attach_all(client, manifest, _Api(url.rstrip("/"), token))
    except NotInRegistryError as error:
        _fail(ABSENT, str(error))
    except OutrankedError as error:
        _fail(REFUTED, str(error))
    except BadReferenceError as error:
        _fail(WRONG_USE, str(error))
    except PublishError as error:
        _fail(UNUSABLE, str(error))
    for one in done:
        how = "by tag" if one.by_tag else "by the referrers API"
        typer.echo(f"{one.subject}: attached {one.referrer} ({how})")
        for old in one.superseded:
            typer.echo(f"{one.subject}: superseded {old}")


def _attach_all(client: "RegistryClient", manifest: "Manifest", api: _Api) -> "list[Attached]":
    """Attaches what the API has of the image; of an index, what it has of each platform's."""
    from services.publish.attach import images_of

    digests = [image.digest for image in images_of(manifest)] or [manifest.digest]
    if len(digests) == 1:
        return _attach(client, manifest, f"{api.url}/vex/{manifest.digest}/attestation", api)
    done = []
    for digest in digests:
        try:
            bundle = f"{api.url}/vex/{digest}/attestation"
            done += _attach(client, client.manifest(digest), bundle, api)
        except typer.Exit as end:
            if end.exit_code != ABSENT:  # why there is none, has been said
                raise
    if not done:
        _fail(ABSENT, f"no platform of {manifest.digest} has a document")
    return done


def _attach(
    client: "RegistryClient", manifest: "Manifest", source: str, api: _Api
) -> "list[Attached]":
    """Attaches one attestation to all digests of its image."""
    from services.publish.attach import attach as push
    from vexstream.intoto import BadAttestationError, parse_envelope, read_statement

    bundle = _load(source, api)
    try:
        subjects = read_statement(parse_envelope(bundle).payload).subjects
        digests = sorted({subject.digest for subject in subjects})
        if manifest.digest not in digests:
            _fail(REFUTED, f"the document of {source} is about other images than {manifest.digest}")
        return push(client, digests, bundle)
    except BadAttestationError as error:
        _fail(REFUTED, f"{source}: {error}")


def link(
    sbom: Annotated[Path, typer.Argument(help="SBOM of the image in CycloneDX JSON")],
    digest: Annotated[str, typer.Argument(help="Config, manifest or index digest: sha256:...")],
    url: ApiUrl = LOCAL,
    token: Token = None,
    same_image: Annotated[
        bool,
        typer.Option(
            "--same-image",
            help="You vouch that the SBOM is of this image, where it does not say so itself",
        ),
    ] = False,
) -> None:
    """Write CycloneDX VEX that refers to your SBOM.

    For `trivy sbom SBOM --vex FILE`.

    Exit status: 0 it is written, 1 the SBOM is of another image, 2 it cannot be read, 3 there is no
    document, 4 the API cannot be used.
    """
    from vexstream.cyclonedx import OtherSbomError, UnreadableSbomError, render_linked
    from vexstream.identity import BadDigestError, Image, parse_digest

    try:
        image = Image(parse_digest(digest))
        content = sbom.read_bytes()
    except (BadDigestError, OSError) as error:
        _fail(WRONG_USE, str(error))
    address = f"{url.rstrip('/')}/vex/{digest}?format=openvex"
    document = _fetch(address, _Api(url, token))
    try:
        linked = render_linked(document, image, content, same_image=same_image)
        sys.stdout.buffer.write(linked)
    except OtherSbomError as error:
        _fail(REFUTED, f"{sbom}: {error}. Where you know that it is of it, say --same-image.")
    except UnreadableSbomError as error:
        _fail(WRONG_USE, f"{sbom}: {error}")


def _check(
    keys: list[Path], identity: str | None, issuer: str | None, trust_config: Path | None
) -> "Callable[[bytes], tuple[Attested, dict[str, str]]]":
    """What tells what an attestation states and who signed it, or raises.

    Raises:
        SigningKeyError: a key cannot be read.
    """
    from services.publish.attestor import require_keyless
    from services.publish.signing import read_public_keys
    from services.publish.signing import verify as verify_key

    if keys and identity is None and issuer is None:
        trusted = read_public_keys(keys)

        def by_key(content: bytes) -> "tuple[Attested, dict[str, str]]":
            attested, key_id = verify_key(content, trusted)
            return attested, {"key": key_id}

        return by_key
    if keys or not identity or not issuer:
        raise typer.BadParameter("say either --key, or --identity and --issuer")
    require_keyless()
    from services.publish.keyless import verify_identity

    return lambda content: (
        verify_identity(content, identity, issuer, trust_config),
        {"identity": identity, "issuer": issuer},
    )


def _asked(target: str, images: list[str]) -> set[str]:
    """The digests of the image that a document must be about."""
    for named in images:
        if not _DIGEST.fullmatch(named):
            raise typer.BadParameter(f"{named} is no digest such as sha256:...")
    return {*images, *_DIGEST.findall(unquote(target).lower())}


def _report(document: dict[str, Any], subjects: list[str], signed_by: dict[str, str]) -> None:
    if not sys.stdout.isatty():
        result = {"verified": True, "document": document.get("@id")}
        result["version"] = document.get("version")
        typer.echo(json.dumps(result | {"subjects": subjects} | signed_by))
        return
    lines = [f"Verified: {document.get('@id')}, version {document.get('version')}"]
    lines.append(f"  signed by  {', '.join(signed_by.values())}")
    lines += [f"  about      {subject}" for subject in subjects]
    for line in lines:
        typer.echo(plain(line))


def _is_document(content: bytes) -> bool:
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return True  # whatever it is, it is not what was signed: the comparison says so
    return isinstance(whole, dict) and "payload" not in whole and "dsseEnvelope" not in whole


def _attestation_of(target: str) -> str:
    if not _is_url(target):
        raise typer.BadParameter("say with --attestation where the document's attestation is")
    return target.partition("?")[0].rstrip("/") + "/attestation"


def _is_url(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def _load(source: str, api: _Api) -> bytes:
    if _is_url(source):
        return _fetch(source, api)
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        _fail(WRONG_USE, f"{source} cannot be read: {error.strerror}")


def _fetch(url: str, api: _Api) -> bytes:
    import httpx

    try:
        answer = httpx.get(url, timeout=TIMEOUT_S, follow_redirects=True, headers=api.headers(url))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        _fail(
            UNUSABLE,
            f"{url} does not answer: {error}. Is the API there? Set --url or VEXSTREAM_URL.",
        )
    if answer.status_code != 200:
        _refuse(answer)
    return answer.content


def _refuse(answer: "httpx.Response") -> NoReturn:
    """Ends with what the server says: its problem's detail."""
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:500]
    if answer.status_code in (401, 403):
        detail += " Set VEXSTREAM_TOKEN, and VEXSTREAM_URL to where it goes."
    _fail(ABSENT if answer.status_code == 404 else UNUSABLE, f"{answer.status_code}: {detail}")


def _fail(status: int, message: str) -> NoReturn:
    typer.echo(plain(message), err=True)
    raise typer.Exit(status)
