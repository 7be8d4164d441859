"""Pods in a real API server, and a real Prometheus that scrapes them by our jobs: what the
dashboard asks for is there, and through the Prometheus adapter what the autoscalers ask for.

scripts/test-on-apiserver builds what that takes.
"""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import prometheus_client
import pytest
import yaml

from services.common import metrics
from services.local.ports import free_port, listens
from services.local.process import Daemon
from tests.support.apiserver import APPLY, ApiServer
from tests.support.manifests import rendered

pytestmark = pytest.mark.real

_DEPLOY = Path(__file__).parents[2] / "deploy"
_RULES = _DEPLOY / "prometheus"
_DASHBOARD = _DEPLOY / "grafana/vexstream.json"
_WAIT_SECONDS = 60
_LAG, _PROJECTION_LAG = 7000, 1234


@pytest.fixture(scope="module")
def prometheus(apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of one that scrapes an API's pod and the exporter's."""
    if shutil.which("prometheus") is None:
        pytest.skip("no Prometheus: apt-get install prometheus")
    apiserver(*APPLY, given=[d for d in rendered("production") if d["kind"] == "Namespace"])
    metrics.PROJECTION_LAG.labels("vexstream.vex-document").set(_PROJECTION_LAG)
    _pod(apiserver, "api-0", {"app.kubernetes.io/name": "api"}, "http",
         _exports(prometheus_client.REGISTRY))  # fmt: skip
    _pod(apiserver, "exporter-0", {"strimzi.io/name": "vexstream-kafka-exporter"},
         "tcp-prometheus", _exports(_kafkas()))  # fmt: skip
    with _scraping(apiserver, tmp_path_factory.mktemp("prometheus")) as url:
        yield url


@pytest.fixture(scope="module")
def adapter(
    apiserver: ApiServer, prometheus: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """URL of the adapter."""
    program = os.environ.get("VEXSTREAM_TEST_ADAPTER")
    if not program:
        pytest.skip("no Prometheus adapter: scripts/test-on-apiserver builds one")
    folder = tmp_path_factory.mktemp("adapter")
    with _adapter(apiserver, folder, program, prometheus) as url:
        yield url


def test_the_dashboards_queries_find_what_a_service_exports(prometheus: str) -> None:
    """Rates are empty or zero while nothing happens; what is a gauge has a value at once."""
    _until_there(f"{prometheus}/api/v1/query", {"query": "vexstream_ready"}, _results)
    panels = json.loads(_DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert queries
    for query in queries:
        asked = query.replace("$__rate_interval", "5m").replace(
            "vexstream-scanner", "vexstream-api"
        )
        answer = httpx.get(f"{prometheus}/api/v1/query", params={"query": asked}).json()
        assert answer["status"] == "success", (query, answer)
        labelled = "step" in query or " by (" in query
        if not labelled and "rate(" not in query and "increase(" not in query:
            assert answer["data"]["result"], query


@pytest.mark.parametrize("scaler", ["api", "correlator"])
def test_what_an_autoscaler_asks_for_is_there(
    adapter: str, apiserver: ApiServer, scaler: str
) -> None:
    scalers = {d["metadata"]["name"]: d["spec"] for d in rendered("production")
               if d["kind"] == "HorizontalPodAutoscaler"}  # fmt: skip
    [asked] = [metric for metric in scalers[scaler]["metrics"] if metric["type"] != "Resource"]
    if asked["type"] == "External":
        metric = asked["external"]["metric"]
        labels = metric["selector"]["matchLabels"]
        path = f"external.metrics.k8s.io/v1beta1/namespaces/vexstream/{metric['name']}"
        query = {"labelSelector": ",".join(f"{k}={v}" for k, v in labels.items())}
        expected = _LAG
    else:
        name = asked["pods"]["metric"]["name"]
        path = f"custom.metrics.k8s.io/v1beta1/namespaces/vexstream/pods/*/{name}"
        query = {"labelSelector": "app.kubernetes.io/name=api"}
        expected = _PROJECTION_LAG
    [item] = _until_there(f"{adapter}/apis/{path}", query, _items, apiserver.authorization)
    assert item["value"] in (str(expected), f"{expected / 1000:g}k")


def _until_there(
    url: str,
    query: dict[str, str],
    found_in: Callable[[Any], list[Any]],
    headers: dict[str, str] | None = None,
) -> list[Any]:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        answer = httpx.get(url, params=query, headers=headers, verify=False)
        if answer.status_code == 200 and (found := found_in(answer.json())):
            return found
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)


def _items(answer: Any) -> list[Any]:
    found: list[Any] = answer["items"]
    return found


def _results(answer: Any) -> list[Any]:
    found: list[Any] = answer["data"]["result"]
    return found


def _kafkas() -> prometheus_client.CollectorRegistry:
    """As Strimzi's exporter names it: a series for each partition."""
    registry = prometheus_client.CollectorRegistry()
    labels = ("consumergroup", "topic", "partition")
    lag = prometheus_client.Gauge("kafka_consumergroup_lag", "Lag", labels, registry=registry)
    lag.labels("vexstream-correlator", "vexstream.file-access", "0").set(_LAG - 1)
    lag.labels("vexstream-correlator", "vexstream.file-access", "1").set(1)
    lag.labels("other", "other", "0").set(99)
    return registry


def _exports(registry: prometheus_client.CollectorRegistry) -> int:
    port = free_port()
    prometheus_client.start_http_server(port, "127.0.0.1", registry)
    return port


def _pod(
    apiserver: ApiServer, name: str, labels: dict[str, str], port_name: str, port: int
) -> None:
    """A pod that runs, as far as the API server knows."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
                "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}  # fmt: skip
    container = {"name": "main", "image": "vexstream/api", "securityContext": security,
                 "ports": [{"name": port_name, "containerPort": port}]}  # fmt: skip
    pod = {"apiVersion": "v1", "kind": "Pod",
           "metadata": {"name": name, "namespace": "vexstream", "labels": labels},
           "spec": {"containers": [container]}}  # fmt: skip
    apiserver("create", "--filename=-", given=[pod])
    status = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
    apiserver("patch", "pod", name, "--namespace=vexstream", "--subresource=status",
              "--type=merge", f"--patch={json.dumps({'status': status})}")  # fmt: skip


@contextlib.contextmanager
def _scraping(apiserver: ApiServer, folder: Path) -> Iterator[str]:
    """Debian's Prometheus is built without Kubernetes: it is told of the pods as that would."""
    found = folder / "pods.json"
    pods = json.loads(apiserver("get", "pods", "--namespace=vexstream", "--output=json"))["items"]
    found.write_text(json.dumps([_discovered(pod) for pod in pods]))
    config = yaml.safe_load((_RULES / "scrape.yaml").read_text())
    for job in config["scrape_configs"]:
        assert job.pop("kubernetes_sd_configs")[0]["role"] == "pod"
        job["file_sd_configs"] = [{"files": [str(found)]}]
    file, port = folder / "prometheus.yaml", free_port()
    file.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}} | config))
    command = ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder}/data",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    with Daemon("prometheus", command, log=folder / "prometheus.log") as daemon:
        daemon.wait_ready(lambda: listens(port), 30)
        yield f"http://127.0.0.1:{port}"


def _discovered(pod: Any) -> dict[str, Any]:
    """As Prometheus' documentation of kubernetes_sd_config has it for the role pod."""
    metadata, [container] = pod["metadata"], pod["spec"]["containers"]
    [port] = container["ports"]
    labels = {re.sub(r"\W", "_", name): value for name, value in metadata["labels"].items()}
    return {
        "targets": [f"{pod['status']['podIP']}:{port['containerPort']}"],
        "labels": {
            "__meta_kubernetes_namespace": metadata["namespace"],
            "__meta_kubernetes_pod_name": metadata["name"],
            "__meta_kubernetes_pod_container_port_name": port["name"],
        }
        | {f"__meta_kubernetes_pod_label_{name}": value for name, value in labels.items()},
    }


@contextlib.contextmanager
def _adapter(apiserver: ApiServer, folder: Path, program: str, prometheus: str) -> Iterator[str]:
    port, access = free_port(), apiserver.kubeconfig(folder / "kubeconfig")
    command = [program, f"--secure-port={port}", f"--cert-dir={folder}",
               f"--prometheus-url={prometheus}", f"--config={_RULES / 'adapter.yaml'}",
               "--metrics-relist-interval=2s", f"--lister-kubeconfig={access}",
               f"--authentication-kubeconfig={access}", f"--authorization-kubeconfig={access}",
               "--authentication-tolerate-lookup-failure"]  # fmt: skip
    with Daemon("adapter", command, log=folder / "adapter.log") as daemon:
        daemon.wait_ready(lambda: listens(port), 30)
        yield f"https://127.0.0.1:{port}"
