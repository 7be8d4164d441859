"""The status of a vulnerability in a package."""

from enum import StrEnum


class Status(StrEnum):
    """OpenVEX status labels, worst first."""

    AFFECTED = "affected"
    UNDER_INVESTIGATION = "under_investigation"
    NOT_AFFECTED = "not_affected"
    FIXED = "fixed"


RULES_OUT = (Status.NOT_AFFECTED, Status.FIXED)
"""The statuses for which a consumer leaves a finding out."""

BADNESS = {status: rank for rank, status in enumerate(Status)}
"""Status -> its place, the worst first."""
