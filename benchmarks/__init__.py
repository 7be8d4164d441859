"""Measurements; each folder says how it is run."""
