"""Fixtures of unit tests alone: those with real containers have a ``node`` of their own."""

from tests.unit.turning import node

__all__ = ["node"]
