"""Alembic migrations of the projection's tables."""
