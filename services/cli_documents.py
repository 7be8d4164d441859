"""``vexstream verify``, ``attach`` and ``link``: signatures, registries and SBOMs.

Exit status: 0 done; 1 it does not verify, or is about something else; 2 the command line is wrong;
3 there is no such document or image; 4 the API or the registry cannot be used.
"""

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn
from urllib.parse import unquote

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    import httpx

    from services.publish.attach import Attached
    from services.publish.registry import Manifest, RegistryClient
    from vexstream.intoto import Attested

DEFAULT_URL = "http://127.0.0.1:8000"
TIMEOUT_S = 60.0
REFUTED, WRONG_USE, ABSENT, UNUSABLE = 1, 2, 3, 4
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")

ApiUrl = Annotated[
    str, typer.Option("--url", envvar="VEXSTREAM_URL", help="Where the API is reached")
]


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
) -> None:
    """Check that a trusted key or identity signed a document, byte for byte, about the image."""
    from services.publish.errors import SigningKeyError, VerificationError

    asked = _asked(target, image or [])
    try:
        check = _check(key or [], identity, issuer, trust_config)
    except SigningKeyError as error:
        _fail(WRONG_USE, str(error))
    content = _load(target)
    document = content if _is_document(content) else None
    if document is not None:
        content = _load(attestation or _attestation_of(target))
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
    url: ApiUrl = DEFAULT_URL,
    attestation: Annotated[
        str | None, typer.Option(help="File or URL of the attestation [that of the API]")
    ] = None,
    docker_config: Annotated[
        Path | None, typer.Option(help="Docker configuration with the login [as Docker finds it]")
    ] = None,
) -> None:
    """Attach the signed document of an image to it, so that `trivy --vex oci` finds it."""
    from services.publish.credentials import DockerConfig
    from services.publish.errors import NotInRegistryError, PublishError
    from services.publish.reference import parse_reference
    from services.publish.registry import RegistryClient

    try:
        reference = parse_reference(image)
        with RegistryClient(reference.repository, DockerConfig.load(docker_config)) as client:
            manifest = client.manifest(reference.version)
            if attestation is not None:
                done = _attach(client, manifest, attestation)
            else:
                done = _attach_all(client, manifest, f"{url.rstrip('/')}/vex")
    except NotInRegistryError as error:
        _fail(ABSENT, str(error))
    except PublishError as error:
        _fail(UNUSABLE, str(error))
    for one in done:
        how = "by tag" if one.by_tag else "by the referrers API"
        typer.echo(f"{one.subject}: attached {one.referrer} ({how})")
        for old in one.superseded:
            typer.echo(f"{one.subject}: superseded {old}")


def _attach_all(client: "RegistryClient", manifest: "Manifest", url: str) -> "list[Attached]":
    """Attaches what the API has of the image; of an index, what it has of each platform's."""
    from services.publish.attach import images_of

    digests = [image.digest for image in images_of(manifest)] or [manifest.digest]
    if len(digests) == 1:
        return _attach(client, manifest, f"{url}/{manifest.digest}/attestation")
    done = []
    for digest in digests:
        try:
            bundle = f"{url}/{digest}/attestation"
            done += _attach(client, client.manifest(digest), bundle)
        except typer.Exit as end:
            if end.exit_code != ABSENT:  # why there is none, has been said
                raise
    if not done:
        _fail(ABSENT, f"no platform of {manifest.digest} has a document")
    return done


def _attach(client: "RegistryClient", manifest: "Manifest", source: str) -> "list[Attached]":
    """Attaches one attestation to all digests of its image."""
    from services.publish.attach import attach as push
    from vexstream.intoto import BadAttestationError, parse_envelope, read_statement

    bundle = _load(source)
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
    url: ApiUrl = DEFAULT_URL,
    same_image: Annotated[
        bool,
        typer.Option(
            "--same-image",
            help="You vouch that the SBOM is of this image, where it does not say so itself",
        ),
    ] = False,
) -> None:
    """Write CycloneDX VEX that refers to your SBOM, for `trivy sbom SBOM --vex FILE`."""
    from vexstream.cyclonedx import OtherSbomError, UnreadableSbomError, render_linked
    from vexstream.identity import BadDigestError, Image, parse_digest

    try:
        image = Image(parse_digest(digest))
        content = sbom.read_bytes()
    except (BadDigestError, OSError) as error:
        _fail(WRONG_USE, str(error))
    document = _fetch(f"{url.rstrip('/')}/vex/{digest}?format=openvex")
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
    typer.echo(f"Verified: {document.get('@id')}, version {document.get('version')}")
    typer.echo(f"  signed by  {', '.join(signed_by.values())}")
    for subject in subjects:
        typer.echo(f"  about      {subject}")


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


def _load(source: str) -> bytes:
    if _is_url(source):
        return _fetch(source)
    try:
        return sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
    except OSError as error:
        _fail(WRONG_USE, f"{source} cannot be read: {error.strerror}")


def _fetch(url: str) -> bytes:
    import httpx

    try:
        answer = httpx.get(url, timeout=TIMEOUT_S, follow_redirects=True)
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
    _fail(ABSENT if answer.status_code == 404 else UNUSABLE, f"{answer.status_code}: {detail}")


def _fail(status: int, message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(status)
