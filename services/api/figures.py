"""The figures of the fleet, kept for a moment: every open page asks for them at each change."""

import asyncio
import time

from services.api import fleet_store
from services.api.database import Database
from services.api.fleet_store import FleetFigures

URGENT = 9
"""How many of the most urgent vulnerabilities are told."""
FRESH_S = 1.0
"""So long the figures are told again without being counted anew."""


class Figures:
    """The figures of the fleet, counted at most once a second however many ask."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._turn = asyncio.Lock()
        self._counted_s = -FRESH_S
        self._figures: FleetFigures | None = None

    async def get(self) -> FleetFigures:
        """The figures, at most a second old.

        Raises:
            DatabaseUnavailableError: they cannot be counted now.
        """
        async with self._turn:
            now_s = time.monotonic()
            if self._figures is None or now_s - self._counted_s >= FRESH_S:
                async with self._database.read() as connection:
                    self._figures = await fleet_store.fleet_figures(connection, URGENT)
                self._counted_s = now_s
            return self._figures
