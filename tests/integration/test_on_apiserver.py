"""The manifests on a real API server: it takes them, without a warning; Pod Security admission lets
our pods in, and the collector nowhere but where it belongs; nobody may do more than he must."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from services.collector.cluster import find, named
from services.collector.settings import CollectorSettings
from tests.support.apiserver import APPLY, ApiServer
from tests.support.manifests import ALL, Document, rendered
from vexstream.kubescape import PLURAL

pytestmark = pytest.mark.real

_ACCOUNTS = {
    "api": "vexstream", "collector": "vexstream-node", "correlator": "vexstream",
    "mirror": "vexstream", "scanner": "vexstream",
}  # fmt: skip
"""Name -> namespace."""
_NAMESPACES = ("vexstream", "vexstream-node", "kubescape", "kube-system")
_RIGHTS = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
_EVERYBODYS = {"selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews"}
"""What any account may ask: who it is, and what it may do."""

_WAIT_SECONDS = 30

Rights = dict[str, set[str]]
"""Resource -> what may be done with it."""


@pytest.fixture(scope="module")
def cluster(kubescape_kind: ApiServer) -> ApiServer:
    """With the kinds of the operators too, as far as their definitions are here."""
    definitions: list[Document] = []
    if folder := os.environ.get("VEXSTREAM_TEST_DEFINITIONS"):
        for file in sorted(Path(folder).glob("*.yaml")):
            definitions += yaml.safe_load_all(file.read_text())
    if definitions:
        kubescape_kind.define(definitions)
    return kubescape_kind


@pytest.mark.parametrize("name", ALL)
def test_it_takes_the_manifests_without_a_warning(cluster: ApiServer, name: str) -> None:
    """One after the other in one cluster, as when somebody goes from one overlay to the next."""
    documents = list(rendered(name))
    served = _served(cluster)
    if lacking := {(d["apiVersion"], d["kind"]) for d in documents} - served:
        pytest.skip(f"no definition of {sorted(lacking)}: scripts/test-on-apiserver fetches them")
    cluster(*APPLY, given=documents)


@pytest.mark.parametrize("name", ALL)
def test_pod_security_lets_our_pods_in(cluster: ApiServer, name: str) -> None:
    cluster(*APPLY, given=_of(name, "Namespace"))
    pods = list(_pods(name))
    assert pods
    for pod in pods:
        cluster("create", "--dry-run=server", "--validate=strict", "--filename=-", given=[pod])


@pytest.mark.parametrize("name", ["base", "openshift"])
def test_the_collector_is_refused_where_everything_else_runs(cluster: ApiServer, name: str) -> None:
    cluster(*APPLY, given=_of(name, "Namespace"))
    [collector] = [pod for pod in _pods(name) if pod["metadata"]["name"] == "collector"]
    collector["metadata"]["namespace"] = "vexstream"
    said = cluster.refusal("create", "--dry-run=server", "--filename=-", given=[collector])
    assert 'violates PodSecurity "restricted' in said
    for excess in ("host namespaces", "hostPath", "unrestricted capabilities"):
        assert excess in said


@pytest.mark.parametrize("name", ["production", "local+kubescape", "openshift+kubescape"])
def test_an_account_may_ask_nothing_but_who_it_is(cluster: ApiServer, name: str) -> None:
    """But the collector for one namespace, whose UID is the cluster's id, and for its constraints
    of OpenShift; and the mirror for its one kind, in Kubescape's namespace."""
    for other in ALL:
        if given := _of(other, *_RIGHTS):
            cluster("delete", "--ignore-not-found", "--filename=-", given=given)
    cluster(*APPLY, given=_of(name, "Namespace", "ServiceAccount", *_RIGHTS))
    expected = {(account, namespace): _expected(name, account, namespace)
                for account in _ACCOUNTS for namespace in _NAMESPACES}  # fmt: skip
    deadline = time.monotonic() + _WAIT_SECONDS
    while (found := _rights(cluster)) != expected and time.monotonic() < deadline:
        time.sleep(0.2)  # the server reads its own rules a moment later
    assert found == expected


async def test_the_collector_learns_the_clusters_id_with_its_own_account(
    cluster: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And reads no other namespace; without the role it says what is missing, and asks again."""
    account = tmp_path / "account"
    account.mkdir()
    cluster("delete", "--ignore-not-found", "--filename=-", given=_of("base", *_RIGHTS))
    cluster(*APPLY, given=_of("base", "Namespace", "ServiceAccount"))
    (account / "token").write_text(cluster.token("vexstream-node", "collector"))
    (account / "ca.crt").write_bytes(cluster.authority.read_bytes())
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", cluster.url.rpartition(":")[2])
    settings = CollectorSettings(kubernetes_account_dir=account)
    found, problems = named(settings), dict[str, str]()
    finding = asyncio.create_task(find(found, settings, problems, 0.2))
    while "403" not in problems.get("cluster", ""):  # noqa: ASYNC110 - a plain dict
        await asyncio.sleep(0.1)
    assert found.name is None
    cluster(*APPLY, given=_of("base", *_RIGHTS))
    await asyncio.wait_for(finding, _WAIT_SECONDS)
    uid = "--output=jsonpath={.metadata.uid}"
    assert found.name == cluster("get", "namespace", "kube-system", uid)
    assert problems == {}
    who = "--as=system:serviceaccount:vexstream-node:collector"
    assert "Forbidden" in cluster.refusal("get", "namespace", "vexstream", who)
    assert "Forbidden" in cluster.refusal("get", "namespaces", who)


def _expected(name: str, account: str, namespace: str) -> Rights:
    if (account, namespace) == ("mirror", "kubescape") and "kubescape" in name:
        return {PLURAL: {"create", "delete", "get", "list", "update"}}
    if account == "collector":
        constraints = {"securitycontextconstraints": {"use"}}
        there = namespace == "vexstream-node" and "openshift" in name
        return {"namespaces": {"get"}} | (constraints if there else {})
    return {}


def _rights(cluster: ApiServer) -> dict[tuple[str, str], Rights]:
    return {
        (account, namespace): cluster.rights(f"system:serviceaccount:{home}:{account}", namespace)
        for account, home in _ACCOUNTS.items()
        for namespace in _NAMESPACES
    }


def _served(cluster: ApiServer) -> set[tuple[str, str]]:
    """(version of the API, kind)."""
    lines = cluster("api-resources", "--no-headers").splitlines()
    return {(line.split()[-3], line.split()[-1]) for line in lines}


def _of(name: str, *kinds: str) -> list[Document]:
    return [document for document in rendered(name) if document["kind"] in kinds]


def _pods(name: str) -> Iterator[Document]:
    """A pod of each workload, as its controller would make it."""
    for document in _of(name, "Deployment", "DaemonSet", "StatefulSet"):
        template, metadata = document["spec"]["template"], document["metadata"]
        claimed = [claim["metadata"]["name"]
                   for claim in document["spec"].get("volumeClaimTemplates", [])]  # fmt: skip
        claims = [{"name": n, "persistentVolumeClaim": {"claimName": n}} for n in claimed]
        yield {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": template["metadata"]
            | {"name": metadata["name"], "namespace": metadata["namespace"]},
            "spec": template["spec"] | {"volumes": [*template["spec"].get("volumes", []), *claims]},
        }
