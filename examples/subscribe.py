"""Follows the topic vex-document: prints what changes for each image, and keeps its place.

    pip install aiokafka[zstd] fastavro zstandard
    python subscribe.py --bootstrap 127.0.0.1:9092 --schema vex-document.avsc

It needs nothing of vexstream but the schema file (schemas/vex-document.avsc).
"""

import argparse
import asyncio
import io
import json
import sys
from pathlib import Path
from typing import Any

import fastavro
import zstandard
from aiokafka import AIOKafkaConsumer
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form


class Documents:
    """Reads the values of the topic."""

    def __init__(self, schema: Path) -> None:
        self._schema = parse_schema(json.loads(schema.read_text("utf-8")))
        canonical = to_parsing_canonical_form(self._schema)
        self._header = b"\xc3\x01" + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))

    def read(self, value: bytes) -> dict[str, Any] | None:
        """The record, or None when it is of a schema that this program does not know."""
        if value[:10] != self._header:
            return None
        record = fastavro.schemaless_reader(io.BytesIO(value[10:]), self._schema, None)
        return record if isinstance(record, dict) else None


def describe(record: dict[str, Any]) -> str:
    """One line about an image."""
    image = record["image"]
    name = (image["names"] or [image["config_digest"]])[0]
    if record["state"] != "document":
        return f"{name}: {record['state']} {record['failure'] or ''}".rstrip()
    document = json.loads(zstandard.decompress(record["body"], max_output_size=2**28))
    counts = ", ".join(f"{count} {status}" for status, count in sorted(record["counts"].items()))
    return (
        f"{name}: version {record['version']}, {len(document['statements'])} statements ({counts})"
    )


async def follow(options: argparse.Namespace) -> None:
    """Reads for ever, or until the topic's present end."""
    documents = Documents(options.schema)
    consumer = AIOKafkaConsumer(
        options.topic,
        bootstrap_servers=options.bootstrap,
        group_id=options.group,
        auto_offset_reset="earliest",  # compacted: the beginning is the state of every image
        enable_auto_commit=False,
    )
    async with consumer:
        while True:
            batch = await consumer.getmany(timeout_ms=3000)
            for records in batch.values():
                for record in records:
                    digest = (record.key or b"").decode()
                    if record.value is None:
                        print(f"{digest}: deleted")
                    elif (found := documents.read(record.value)) is None:
                        print(f"{digest}: of a newer schema, passed over", file=sys.stderr)
                    else:
                        print(describe(found))
            sys.stdout.flush()
            if batch:
                await consumer.commit()  # after the work: a crash repeats records, loses none
            elif options.once:
                return


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bootstrap", default="127.0.0.1:9092")
    parser.add_argument("--topic", default="vexstream.vex-document")
    parser.add_argument("--group", default="vex-example")
    parser.add_argument("--schema", type=Path, default=Path("schemas/vex-document.avsc"))
    parser.add_argument("--once", action="store_true", help="end when nothing comes for 3 s")
    asyncio.run(follow(parser.parse_args()))


if __name__ == "__main__":
    main()
