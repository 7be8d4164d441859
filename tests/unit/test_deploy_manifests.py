"""The Kubernetes manifests: rendered by kustomize, valid by Kubernetes' own schemas, and true to
the code: every variable is a setting, every port and probe path exists, every topic has its rights.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest
from fastapi.routing import APIRoute
from kubernetes_validate import validate
from pydantic_settings import BaseSettings

from services.api.ops import router as api_operations
from services.api.settings import ApiSettings
from services.collector.settings import CollectorSettings
from services.common import metrics
from services.common.ops import ops_app
from services.common.settings import CommonSettings
from services.common.topics import _SPECS, Topic
from services.correlator.settings import CorrelatorSettings
from services.kubescape.settings import KubescapeSettings
from services.scanner.settings import ScannerSettings
from tests.support.manifests import ALL, Document, rendered
from tests.support.operator_schemas import schema_of
from vexstream.kubescape import API_VERSION, PLURAL

_ROOT = Path(__file__).parents[2]
_SETTINGS: dict[str, type[BaseSettings]] = {
    "api": ApiSettings,
    "collector": CollectorSettings,
    "correlator": CorrelatorSettings,
    "mirror": KubescapeSettings,
    "scanner": ScannerSettings,
}
_VERSION = "1.37"
_OPERATORS = (
    "kafka.strimzi.io/", "postgresql.cnpg.io/", "external-secrets.io/",
    "security.openshift.io/", "route.openshift.io/",
)  # fmt: skip
"""Whose schemas are not Kubernetes' own."""
_COMMANDS = {
    "api": "serve", "collector": "collect", "correlator": "correlate", "mirror": "mirror",
    "scanner": "scan",
}  # fmt: skip


def _pods(name: str) -> Iterator[tuple[str, str, Document]]:
    """(namespace, name, pod specification) of every workload."""
    for document in rendered(name):
        if document["kind"] in ("Deployment", "DaemonSet", "StatefulSet"):
            metadata = document["metadata"]
            yield metadata["namespace"], metadata["name"], document["spec"]["template"]["spec"]


def _of(name: str, kind: str) -> dict[tuple[str, str], Document]:
    return {
        (d["metadata"].get("namespace", ""), d["metadata"]["name"]): d
        for d in rendered(name)
        if d["kind"] == kind
    }


@pytest.mark.parametrize("name", ALL)
def test_manifests_are_valid_by_the_schemas_of_kubernetes(name: str) -> None:
    checked = 0
    for document in rendered(name):
        if not document["apiVersion"].startswith(_OPERATORS):
            validate(document, _VERSION, strict=True)
            checked += 1
    assert checked >= 24


@pytest.mark.parametrize(
    ("name", "kinds"), [("production+kubescape", 6), ("openshift+kubescape", 8)]
)
def test_resources_of_operators_are_valid_by_their_definitions(name: str, kinds: int) -> None:
    """Strimzi, CloudNativePG, External Secrets and OpenShift: tests/support/operator_schemas.py."""
    checked = set()
    for document in rendered(name):
        api_version, kind = document["apiVersion"], document["kind"]
        if api_version.startswith(_OPERATORS):
            jsonschema.validate(document, schema_of(api_version, kind))
            checked.add(kind)
    assert len(checked) == kinds


def test_the_definitions_refuse_what_is_wrong() -> None:
    document = dict(_of("production", "Kafka")["vexstream", "vexstream"])
    document["spec"] = document["spec"] | {"zookeeper": {"replicas": 3}}
    with pytest.raises(jsonschema.ValidationError, match="zookeeper"):
        jsonschema.validate(document, schema_of(document["apiVersion"], "Kafka"))


def test_the_schemas_refuse_what_is_wrong() -> None:
    document = dict(_of("base", "Service")["vexstream", "api"])
    document["spec"] = document["spec"] | {"portz": []}
    with pytest.raises(Exception, match="portz"):
        validate(document, _VERSION, strict=True)


@pytest.mark.parametrize("name", ALL)
def test_all_pods_but_the_collector_are_restricted(name: str) -> None:
    """The level ``restricted`` of the Pod Security standards, rule by rule."""
    namespaces = _of(name, "Namespace")
    for namespace, workload, pod in _pods(name):
        level = namespaces["", namespace]["metadata"]["labels"][
            "pod-security.kubernetes.io/enforce"
        ]
        problems = set(_beyond_restricted(pod, openshift=name.startswith("openshift")))
        if (namespace, workload) == ("vexstream-node", "collector"):
            assert level == "privileged"
            profile = set() if name.startswith("openshift") else {"collector: appArmor Unconfined"}
            assert problems == profile | {
                "hostPID", "hostPath", "collector: runs as root",
                "collector: adds BPF", "collector: adds PERFMON", "collector: adds SYS_PTRACE",
                "collector: adds DAC_READ_SEARCH",
            }  # fmt: skip
        else:
            assert level == "restricted"
            assert not problems, (workload, problems)


def _beyond_restricted(pod: Document, *, openshift: bool) -> Iterator[str]:
    for flag in ("hostPID", "hostIPC", "hostNetwork"):
        if pod.get(flag):
            yield flag
    for volume in pod.get("volumes", []):
        allowed = {"configMap", "emptyDir", "secret", "projected", "persistentVolumeClaim"}
        yield from set(volume) - {"name"} - allowed
    outer = pod.get("securityContext", {})
    for container in pod["containers"] + pod.get("initContainers", []):
        inner = container.get("securityContext", {})
        both = {**outer, **inner}
        where = container["name"]
        if both.get("runAsUser") == 0 or not (both.get("runAsNonRoot") or openshift):
            yield f"{where}: runs as root"
        if inner.get("privileged"):
            yield f"{where}: privileged"
        if inner.get("allowPrivilegeEscalation") is not False:
            yield f"{where}: may escalate"
        if both.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{where}: no seccomp profile"
        profile = both.get("appArmorProfile", {}).get("type", "RuntimeDefault")
        if profile != "RuntimeDefault":
            yield f"{where}: appArmor {profile}"
        capabilities = inner.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"]:
            yield f"{where}: keeps capabilities"
        for added in capabilities.get("add", []):
            yield f"{where}: adds {added}"


@pytest.mark.parametrize("name", ALL)
def test_our_containers_have_a_read_only_root_and_bounds(name: str) -> None:
    for _, workload, pod in _pods(name):
        assert pod["automountServiceAccountToken"] is (workload in ("collector", "mirror"))
        for container in pod["containers"]:
            if workload in _SETTINGS:
                assert container["securityContext"]["readOnlyRootFilesystem"] is True
                assert container["args"] == [_COMMANDS[workload]]
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"])
            assert "memory" in resources["limits"]
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_requests_are_those_of_the_documentation_beside_what_was_measured() -> None:
    text = (_ROOT / "docs/kubernetes.md").read_text()
    documented = {
        service: {"cpu": cpu, "memory": f"{mib}Mi"}
        for service, cpu, mib in re.findall(r"^\| (\w+) \| (\d+m), (\d+) MiB \|", text, re.M)
    }
    requested = {
        workload: {
            of: pod["containers"][0]["resources"]["requests"][of] for of in ("cpu", "memory")
        }
        for _, workload, pod in _pods("local+kubescape")
        if workload in _SETTINGS
    }
    assert requested == documented


@pytest.mark.parametrize("name", ALL)
def test_host_paths_are_read_only_and_few(name: str) -> None:
    for _, workload, pod in _pods(name):
        paths = {
            v["name"]: v["hostPath"]["path"] for v in pod.get("volumes", []) if "hostPath" in v
        }
        sockets = {"/run/containerd/containerd.sock", "/run/crio/crio.sock"}
        if workload == "collector":
            assert set(paths.values()) - sockets == {"/sys/fs/cgroup", "/sys/kernel/btf"}
        else:
            assert not paths
        for container in pod["containers"]:
            for mount in container.get("volumeMounts", []):
                assert mount.get("readOnly") or mount["name"] not in paths


def test_the_collectors_capabilities_are_those_of_its_documentation() -> None:
    [pod] = [pod for _, workload, pod in _pods("base") if workload == "collector"]
    added = pod["containers"][0]["securityContext"]["capabilities"]["add"]
    text = (_ROOT / "docs/collector.md").read_text()
    privileges = text[text.index("## Privileges") :]
    assert {f"CAP_{name}" for name in added} <= set(re.findall(r"CAP_[A-Z_]+", privileges))
    assert {"operator": "Exists"} in pod["tolerations"]


@pytest.mark.parametrize("name", ALL)
def test_every_variable_is_a_setting_of_its_service(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    maps = _of(name, "ConfigMap")
    for namespace, workload, pod in _pods(name):
        if workload not in _SETTINGS:
            continue
        given = {entry["name"]: entry for entry in pod["containers"][0].get("env", [])}
        shared = _config_map(maps, namespace, pod)
        known = {f"VEXSTREAM_{field.upper()}" for field in _SETTINGS[workload].model_fields}
        own = {name for name in given if name.startswith("VEXSTREAM_")}
        assert own <= known, workload
        assert set(shared) <= {f"VEXSTREAM_{f.upper()}" for f in CommonSettings.model_fields}
        values = shared | {n: given[n]["value"] for n in own if "value" in given[n]}
        if workload == "scanner":
            values["VEXSTREAM_WORK_DIR"] = str(tmp_path)  # it exists in the image, not here
        with monkeypatch.context() as environment:
            for variable, value in values.items():
                environment.setenv(variable, _put_together(value))
            _SETTINGS[workload]()


def _config_map(
    maps: dict[tuple[str, str], Document], namespace: str, pod: Document
) -> dict[str, str]:
    [source] = pod["containers"][0]["envFrom"]
    data: dict[str, str] = maps[namespace, source["configMapRef"]["name"]]["data"]
    return data


def _put_together(value: str) -> str:
    """As kubelet does it."""
    values = {"DATABASE_USER": "u", "DATABASE_PASSWORD": "p", "DATABASE_HOST": "h"}
    return re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], value)


@pytest.mark.parametrize("name", ALL)
def test_what_a_variable_refers_to_comes_before_it(name: str) -> None:
    """Kubelet leaves ``$(NAME)`` as it is where NAME is defined later."""
    for _, _, pod in _pods(name):
        for container in pod["containers"]:
            known: set[str] = set()
            for entry in container.get("env", []):
                assert set(re.findall(r"\$\((\w+)\)", entry.get("value", ""))) <= known
                known.add(entry["name"])


@pytest.mark.parametrize("name", ALL)
def test_ports_and_probes_are_those_of_the_code(name: str) -> None:
    ops_paths = {route.path for route in ops_app(lambda: None).routes if hasattr(route, "path")}
    api_paths = {route.path for route in api_operations.routes if isinstance(route, APIRoute)}
    for namespace, workload, pod in _pods(name):
        if workload not in _SETTINGS:
            continue
        container = pod["containers"][0]
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        values = {e["name"]: e.get("value") for e in container["env"]}
        shared = _config_map(_of(name, "ConfigMap"), namespace, pod)
        if workload == "api":
            assert values["VEXSTREAM_API_PORT"] == ports["http"]
        else:
            assert shared["VEXSTREAM_OPS_PORT"] == ports["ops"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            request = container[probe]["httpGet"]
            assert request["port"] in ports
            assert request["path"] in (api_paths if workload == "api" else ops_paths)
        # Liveness must not restart a service for what lies outside of it.
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize("name", ALL)
def test_every_service_finds_a_port_of_its_pods(name: str) -> None:
    pods = {
        d["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/name"]: d
        for d in rendered(name)
        if d["kind"] in ("Deployment", "DaemonSet", "StatefulSet")
    }
    services = _of(name, "Service")
    assert ("vexstream", "api") in services
    for service in services.values():
        target = pods[service["spec"]["selector"]["app.kubernetes.io/name"]]
        containers = target["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for c in containers for port in c["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_the_correlator_is_not_scaled_beyond_its_partitions() -> None:
    scaler = _of("base", "HorizontalPodAutoscaler")["vexstream", "correlator"]
    partitions = _of("base", "ConfigMap")["vexstream", "vexstream"]["data"]["VEXSTREAM_PARTITIONS"]
    assert scaler["spec"]["maxReplicas"] == int(partitions)


@pytest.mark.parametrize("name", ["local", "production"])
def test_postgres_takes_the_connections_of_all_replicas(name: str) -> None:
    scaler = _of(name, "HorizontalPodAutoscaler")["vexstream", "api"]["spec"]
    deployment = _of(name, "Deployment")["vexstream", "api"]["spec"]
    replicas = scaler["maxReplicas"] + deployment["strategy"]["rollingUpdate"]["maxSurge"]
    if name == "production":
        database = _of(name, "Cluster")["vexstream", "vexstream-db"]["spec"]
        allowed = int(database["postgresql"]["parameters"]["max_connections"])
    else:
        pod = _of(name, "StatefulSet")["vexstream", "postgres"]["spec"]["template"]["spec"]
        allowed = int(pod["containers"][0]["args"][1].removeprefix("max_connections="))
    each = 2 * ApiSettings.model_fields["database_connections"].default + 4
    people_and_backups = 10
    assert replicas * each + people_and_backups <= allowed


def test_lag_scales_in_production() -> None:
    """By metrics that the services export, or Strimzi's exporter, under those names."""
    scalers = _of("production", "HorizontalPodAutoscaler")
    kinds = {
        name: [metric["type"] for metric in scaler["spec"]["metrics"]]
        for (_, name), scaler in scalers.items()
    }
    assert kinds == {"api": ["Resource", "Pods"], "correlator": ["Resource", "External"]}
    lag = scalers["vexstream", "correlator"]["spec"]["metrics"][1]["external"]["metric"]
    assert lag["selector"]["matchLabels"] == {
        "consumergroup": CorrelatorSettings().correlator_group
    }
    pods = scalers["vexstream", "api"]["spec"]["metrics"][1]["pods"]["metric"]["name"]
    assert pods in {metric.name for metric in metrics.PROJECTION_LAG.collect()}
    assert _of("production", "Kafka")["vexstream", "vexstream"]["spec"]["kafkaExporter"]


@pytest.mark.parametrize("name", ALL)
def test_nothing_else_may_be_asked_of_the_api_server(name: str) -> None:
    """The collector reads one namespace, for its UID; the mirror writes one kind of resource;
    OpenShift's collector may use its own constraints."""
    rules = {
        role: document["rules"]
        for kind in ("Role", "ClusterRole")
        for role, document in _of(name, kind).items()
    }
    expected: dict[tuple[str, str], list[Document]] = {
        ("", "vexstream-collector"): [
            {"apiGroups": [""], "verbs": ["get"],
             "resources": ["namespaces"], "resourceNames": ["kube-system"]}
        ]
    }  # fmt: skip
    if name.startswith("openshift"):
        expected["vexstream-node", "vexstream-collector-constraints"] = [
            {"apiGroups": ["security.openshift.io"], "verbs": ["use"],
             "resources": ["securitycontextconstraints"], "resourceNames": ["vexstream-collector"]}
        ]  # fmt: skip
    if "+kubescape" in name:
        group, _, version = API_VERSION.partition("/")
        assert version == "v1beta1"
        expected["kubescape", "vexstream-mirror"] = [
            {"apiGroups": [group], "resources": [PLURAL],
             "verbs": ["get", "list", "create", "update", "delete"]}
        ]  # fmt: skip
    assert rules == expected


@pytest.mark.parametrize("name", ALL[1:])
def test_every_namespace_denies_what_is_not_named(name: str) -> None:
    policies = _of(name, "NetworkPolicy")
    for namespace in ("vexstream", "vexstream-node"):
        denial = policies[namespace, "default-deny"]["spec"]
        assert denial == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        assert (namespace, "to-stores") in policies


def test_every_topic_of_the_code_is_there_as_the_code_would_make_it() -> None:
    topics = {name: d["spec"] for (_, name), d in _of("production", "KafkaTopic").items()}
    settings = CommonSettings()
    assert set(topics) == {topic.name_in(settings) for topic in Topic}
    for topic, spec in _SPECS.items():
        made = topics[topic.name_in(settings)]
        assert made["partitions"] == (1 if spec.one_partition else settings.partitions)
        assert {key: str(value) for key, value in made["config"].items()} == spec.config


@pytest.mark.parametrize("name", ["production", "production+kubescape"])
def test_every_service_has_an_account_of_its_own_with_named_rights(name: str) -> None:
    users = _of(name, "KafkaUser")
    for namespace, workload, pod in _pods(name):
        if workload not in _SETTINGS:
            continue
        env = {entry["name"]: entry for entry in pod["containers"][0]["env"]}
        assert env["VEXSTREAM_KAFKA_USERNAME"]["value"] == f"vexstream-{workload}"
        secret = env["VEXSTREAM_KAFKA_PASSWORD"]["valueFrom"]["secretKeyRef"]["name"]
        assert (namespace, secret) in _of(name, "ExternalSecret")
        rights = users["vexstream", f"vexstream-{workload}"]["spec"]["authorization"]["acls"]
        assert all(right["resource"]["name"] != "*" for right in rights)
        assert all("All" not in right["operations"] for right in rights)


def test_no_password_is_in_the_production_manifests() -> None:
    assert not _of("production", "Secret")
    assert not _of("openshift", "Secret")
