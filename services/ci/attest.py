"""Signs the document of a run, and attaches it to the image in its registry, if asked to."""

from pathlib import Path

from services.ci.errors import PublicationError
from services.publish.attach import attach
from services.publish.attestor import Attestor, load_attestor
from services.publish.credentials import DockerConfig
from services.publish.errors import PublishError
from services.publish.reference import parse_reference
from services.publish.registry import RegistryClient
from services.publish.signing import SigningSettings
from vexstream.identity import Image


def attestor() -> Attestor:
    """Whoever the environment names to sign.

    Raises:
        PublicationError: it names none, or one that cannot be used.
    """
    try:
        found = load_attestor(SigningSettings())
    except PublishError as error:
        raise PublicationError(str(error)) from error
    if found is None:
        raise PublicationError(
            "no key to sign with: set VEXSTREAM_SIGNING_KEY, VEXSTREAM_SIGNING_KEY_FILE or "
            "VEXSTREAM_SIGNING_KEY_URI, or sign by the job's identity: VEXSTREAM_SIGNING_KEYLESS"
        )
    return found


def sign(document: bytes, image: Image, by: Attestor, file: Path) -> bytes:
    """Writes the Sigstore bundle beside the document.

    Raises:
        PublicationError: it cannot be signed.
    """
    try:
        bundle = by.attest(document, image)
    except PublishError as error:
        raise PublicationError(f"the document cannot be signed: {error}") from error
    file.write_bytes(bundle)
    return bundle


def push(reference: str, image: Image, bundle: bytes) -> None:
    """Attaches the bundle to those digests of the image that the repository has.

    Raises:
        PublicationError: the registry has none of them, or refuses, or production's document is
            attached already.
    """
    try:
        wanted = parse_reference(reference)
        with RegistryClient(wanted.repository, DockerConfig.load(None)) as client:
            manifest = client.manifest(wanted.version)
            if manifest.digest not in image.manifest_digests:
                raise PublicationError(
                    f"{reference} is {manifest.digest}, which is not known to be the image that "
                    f"was tested: name it with --product {reference}@{manifest.digest}"
                )
            attach(client, image.manifest_digests, bundle)
    except PublishError as error:
        raise PublicationError(f"cannot attach to {reference}: {error}") from error
