"""Structured logs: one JSON object a line on standard error."""

import logging
import sys

import structlog

_HINTS = {
    "CERTIFICATE_VERIFY_FAILED": "the broker's certificate is not one of the authorities of "
    "VEXSTREAM_KAFKA_CA_FILE, or not for this host name: set the file, or the address",
    "Authentication failed": "the broker does not take VEXSTREAM_KAFKA_USERNAME with "
    "VEXSTREAM_KAFKA_PASSWORD by VEXSTREAM_KAFKA_SASL_MECHANISM",
    "WRONG_VERSION_NUMBER": "no TLS is spoken there: see VEXSTREAM_KAFKA_SECURITY_PROTOCOL and the "
    "port in VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS",
}
"""What the client library says -> what to do. It tells its log alone why it cannot connect."""


def hint(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Adds what to do to what the client library says."""
    text = str(event.get("event", ""))
    for cause, remedy in _HINTS.items():
        if cause in text:
            event["hint"] = remedy
    return event


def configure(service: str, level: str) -> None:
    """Sets up structlog and the standard library's logging for this process."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), hint],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    structlog.contextvars.bind_contextvars(service=service)
