"""Documents of made-up vendors for the made-up fleet: some hold, some were superseded, one was
withdrawn."""

from typing import Any

import httpx

from benchmarks.api.fill import image
from vexstream.products import product_purls

_PACKAGES = ("zlib1g@1.2.13", "libxml2@2.9.14", "curl@7.88.1", "openssl@3.0.11", "perl-base@5.36.0")


def give(url: str, token: str) -> None:
    """Hands them in, and takes one back."""
    with httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60
    ) as api:
        for document in _documents():
            api.post("/vendor-vex", json=document).raise_for_status()
        gone = api.delete("/vendor-vex", params={"document": _id("harbour", 7), "version": "1"})
        gone.raise_for_status()


def _documents() -> list[dict[str, Any]]:
    packages = [f"pkg:deb/debian/{package}" for package in _PACKAGES]
    return [
        _openvex("lagoon", 12, "2024-02-01", dict.fromkeys(_cves(10, 40), packages)),
        _openvex("lagoon", 12, "2024-03-01", dict.fromkeys(_cves(10, 44), packages), version=2),
        _openvex("harbour", 7, "2024-01-15", dict.fromkeys(_cves(60, 3), packages[:2])),
        _openvex("harbour", 9, "2024-04-02", dict.fromkeys(_cves(12, 5), packages[1:3])),
        _openvex("tidewater", 3, "2024-05-20", {cve: _images() for cve in _cves(80, 2)}),
        _csaf("Breakwater Linux PSIRT", "BLSA-2024:0117", "2024-04-11"),
    ]


def _id(vendor: str, number: int) -> str:
    return f"https://{vendor}.example/security/vex/2024-{number:04}.openvex.json"


def _cves(first: int, count: int) -> list[str]:
    return [f"CVE-2024-{number:04}" for number in range(first, first + count)]


def _images() -> list[str]:
    return [purl for number in range(3) for purl in product_purls(image(number))[:1]]


def _openvex(
    vendor: str, number: int, day: str, said: dict[str, list[str]], version: int = 1
) -> dict[str, Any]:
    statements = [
        {
            "vulnerability": {"name": cve},
            "products": [{"@id": purl} for purl in purls],
            **(
                {"status": "affected", "action_statement": "update to the next release"}
                if place % 4 == 0
                else {"status": "not_affected", "justification": "vulnerable_code_not_present"}
            ),
        }
        for place, (cve, purls) in enumerate(said.items())
    ]
    return {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": _id(vendor, number),
        "author": f"{vendor.title()} Product Security",
        "timestamp": f"{day}T09:00:00Z",
        "version": version,
        "statements": statements,
    }


def _csaf(publisher: str, identifier: str, day: str) -> dict[str, Any]:
    purl = "pkg:rpm/breakwater/openssl@3.0.7-18.el9"
    tracking = {"id": identifier, "version": "2", "current_release_date": f"{day}T12:00:00Z"}
    helper = {"product_identification_helper": {"purl": purl}}
    return {
        "document": {
            "category": "csaf_vex",
            "csaf_version": "2.0",
            "publisher": {"name": publisher},
            "tracking": tracking,
        },
        "product_tree": {"branches": [{"product": {"product_id": "openssl", **helper}}]},
        "vulnerabilities": [
            {"cve": cve, "product_status": {"fixed": ["openssl"]}} for cve in _cves(30, 4)
        ],
    }
