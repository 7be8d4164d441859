"""Syft and Grype as programs: how they are called, and what they say of themselves.

Never with ``--quiet``: it silences the reason of a failure as well.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from services.scanner.build_info import version_of
from services.scanner.errors import MatchFailedError, SbomFailedError
from services.scanner.settings import ScannerSettings
from services.scanner.tool import Limits, ToolFailedError, find, run

_QUIET = {"SYFT_CHECK_FOR_APP_UPDATE": "false", "GRYPE_CHECK_FOR_APP_UPDATE": "false"}
_WHOLE_LISTS = {
    "SYFT_DOTNET_DEP_PACKAGES_MUST_CLAIM_DLL": "false",
    "SYFT_DOTNET_EXCLUDE_PROJECT_REFERENCES": "false",
}
"""Of a .NET application's list Syft leaves packages out that have no assembly in it, and projects.
What another scanner knows of them would be without a statement of its own."""
_ASK = Limits(timeout_seconds=60, memory_mib=1024, file_mib=16)


@dataclass(frozen=True, slots=True)
class Database:
    """State of Grype's database."""

    built: str
    schema: str
    problem: str | None = None

    @property
    def built_at_s(self) -> float:
        """Seconds since the Unix epoch; 0 when ``built`` is no time."""
        try:
            return datetime.fromisoformat(self.built).timestamp()
        except ValueError:
            return 0.0


class Tools:
    """The two scanners, found and with their limits."""

    def __init__(self, settings: ScannerSettings) -> None:
        """Raises ToolMissingError."""
        find("prlimit", "PATH", "install util-linux")
        self.syft = find(
            settings.syft, "VEXSTREAM_SYFT",
            "install Syft (go install github.com/anchore/syft/cmd/syft@v1.57.0)",
        )  # fmt: skip
        self.grype = find(
            settings.grype, "VEXSTREAM_GRYPE",
            "install Grype (go install github.com/anchore/grype/cmd/grype@latest)",
        )  # fmt: skip
        self._limits = Limits(
            settings.scan_timeout_seconds, settings.tool_memory_mib, settings.max_unpacked_mib
        )

    async def sbom(self, layout: Path, work: Path) -> Path:
        """Syft's document for an OCI layout, in a file.

        Raises:
            SbomFailedError: Syft failed.
        """
        output = work / "syft.json"
        # The list of all files with their digests is large and not used here.
        variables = {**_QUIET, **_WHOLE_LISTS, "TMPDIR": str(work),
                     "SYFT_FILE_METADATA_SELECTION": "none"}  # fmt: skip
        command = [self.syft, "scan", f"oci-dir:{layout}", "--output", "syft-json"]
        try:
            await run(command, output, self._limits, variables)
        except ToolFailedError as error:
            raise SbomFailedError(str(error)) from error
        return output

    async def convert(self, sbom: Path, work: Path) -> Path:
        """A CycloneDX or SPDX document as Syft's, in a file.

        Raises:
            SbomFailedError: Syft does not understand it.
        """
        output = work / "converted.json"
        command = [self.syft, "convert", str(sbom), "--output", "syft-json"]
        try:
            await run(command, output, self._limits, {**_QUIET, "TMPDIR": str(work)})
        except ToolFailedError as error:
            raise SbomFailedError(f"the given SBOM: {error}") from error
        return output

    async def match(self, sbom: Path, work: Path) -> Path:
        """Grype's report on Syft's document, in a file.

        Raises:
            MatchFailedError: Grype failed.
        """
        output = work / "grype.json"
        # Findings are no error here, whatever threshold the environment sets.
        variables = {**_QUIET, "TMPDIR": str(work), "GRYPE_FAIL_ON_SEVERITY": ""}
        command = [self.grype, f"sbom:{sbom}", "--output", "json"]
        try:
            await run(command, output, self._limits, variables)
        except ToolFailedError as error:
            raise MatchFailedError(str(error)) from error
        return output

    async def versions(self, work: Path) -> dict[str, str]:
        """What the programs call their versions; an error's text for one that does not run."""
        found = {}
        for name, program in (("syft", self.syft), ("grype", self.grype)):
            try:
                document = await self._ask([program, "version", "-o", "json"], work)
                stated = str(document.get("version", ""))
                found[name] = await asyncio.to_thread(version_of, program, stated)
            except ToolFailedError as error:
                found[name] = str(error)
        return found

    def grype_version(self, stated: str) -> str:
        """Grype's version, going by what it says of itself, else by its binary."""
        return version_of(self.grype, stated)

    async def database(self, work: Path) -> Database:
        """State of Grype's database as it is now."""
        try:
            status = await self._ask([self.grype, "db", "status", "-o", "json"], work)
        except ToolFailedError as error:
            return Database("", "", str(error))
        built = str(status.get("built", ""))
        problem = None if built else "`grype db status` names no date"
        return Database(built, str(status.get("schemaVersion", "")), problem)

    async def update_database(self, work: Path) -> None:
        """Has Grype fetch a newer database if there is one.

        Raises:
            ToolFailedError: it could not.
        """
        await run([self.grype, "db", "update"], work / "update", self._limits, _QUIET)

    async def _ask(self, command: list[str], work: Path) -> Mapping[str, Any]:
        output = work / "answer.json"
        await run(command, output, _ASK, _QUIET)
        try:
            document = json.loads(output.read_bytes())
        except ValueError as error:
            raise ToolFailedError(f"{' '.join(command)} gave no JSON: {error}") from error
        return document if isinstance(document, dict) else {}
