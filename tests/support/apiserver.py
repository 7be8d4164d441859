"""A real API server of Kubernetes with an etcd, without nodes and controllers: what it takes, whom
it lets do what, and what Pod Security admission refuses.

scripts/test-on-apiserver builds it and runs the tests that ask for it.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.local.ports import free_port, listens
from services.local.process import Daemon, Running
from tests.support.manifests import kubectl
from vexstream.kubescape import API_VERSION, KIND, PLURAL

APPLY = ("apply", "--server-side", "--force-conflicts", "--validate=strict", "--filename=-")
_TOKEN = "administrator"
_STRANGER = "system:serviceaccount:default:stranger"
"""An account that nobody gave anything: what it may do, everybody may."""


class ApiServer(Running):
    """Everything is below ``folder``; the administrator's token is known."""

    def __init__(self, program: Path, folder: Path) -> None:
        self._program = program
        self._folder = folder
        self._daemons: list[Daemon] = []
        self._anybodys: dict[str, dict[str, set[str]]] = {}
        self.url = f"https://127.0.0.1:{free_port()}"
        self.authority = folder / "certificates/apiserver.crt"
        self.authorization = {"Authorization": f"Bearer {_TOKEN}"}

    def start(self) -> None:
        etcd = self._etcd()
        key = self._folder / "accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        tokens = self._folder / "tokens.csv"
        tokens.write_text(f"{_TOKEN},administrator,1,system:masters\n")
        port = int(self.url.rpartition(":")[2])
        daemon = self._run(
            str(self._program), "--bind-address=127.0.0.1", f"--secure-port={port}",
            f"--etcd-servers={etcd}", f"--cert-dir={self.authority.parent}",
            f"--token-auth-file={tokens}", "--authorization-mode=RBAC",
            f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.0.0.0/24", "--endpoint-reconciler-type=none",
            # A controller would make the accounts that it waits for; there is none.
            "--disable-admission-plugins=ServiceAccount",
        )  # fmt: skip
        daemon.wait_ready(lambda: self._done("get", "--raw", "/readyz").returncode == 0, 120)

    def stop(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.stop(10)
        self._daemons.clear()

    def __call__(self, *arguments: str, given: object = None) -> str:
        """Runs kubectl as the administrator; ``given`` are the documents that it reads."""
        done = self._done(*arguments, given=given)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def refusal(self, *arguments: str, given: object = None) -> str:
        """What it says instead of doing it."""
        done = self._done(*arguments, given=given)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def define(self, definitions: list[Any]) -> None:
        """Adds kinds; returns when they are served."""
        self(*APPLY, given=definitions)
        names = [definition["metadata"]["name"] for definition in definitions]
        self("wait", "--for=condition=established", "--timeout=60s",
             *(f"customresourcedefinition/{name}" for name in names))  # fmt: skip

    def rights(self, user: str, namespace: str) -> dict[str, set[str]]:
        """Resource -> what the user may do with it, beyond what anybody may."""
        if namespace not in self._anybodys:
            self._anybodys[namespace] = self._rules(_STRANGER, namespace)
        anybodys, own = self._anybodys[namespace], self._rules(user, namespace)
        beyond = {
            resource: verbs - anybodys.get(resource, set()) for resource, verbs in own.items()
        }
        return {resource: verbs for resource, verbs in beyond.items() if verbs}

    def _rules(self, user: str, namespace: str) -> dict[str, set[str]]:
        asked = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
                 "spec": {"namespace": namespace}}  # fmt: skip
        # Whose kubectl may list no definitions cannot validate.
        answer = self("create", "--filename=-", "--output=json", "--validate=false",
                      f"--as={user}", given=[asked])  # fmt: skip
        found: dict[str, set[str]] = {}
        for rule in json.loads(answer)["status"]["resourceRules"]:
            for resource in rule["resources"]:
                found.setdefault(resource, set()).update(rule["verbs"])
        return found

    def kubeconfig(self, file: Path) -> Path:
        """Writes how the administrator gets in."""
        cluster = {"server": self.url, "certificate-authority": str(self.authority)}
        file.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "it", "user": {"token": _TOKEN}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }))  # fmt: skip
        return file

    def token(self, namespace: str, account: str) -> str:
        """Of an account, as kubelet would put it into its pod."""
        return self("create", "token", account, "--namespace", namespace).strip()

    def _done(self, *arguments: str, given: object = None) -> "subprocess.CompletedProcess[str]":
        command = [kubectl(), "--server", self.url, "--token", _TOKEN,
                   "--certificate-authority", str(self.authority),
                   "--warnings-as-errors", *arguments]  # fmt: skip
        documents = yaml.safe_dump_all(given) if isinstance(given, list) else None
        return subprocess.run(command, input=documents, capture_output=True, text=True,
                              timeout=120, check=False,
                              env={**os.environ, "KUBECONFIG": "/nonexistent"})  # fmt: skip

    def _etcd(self) -> str:
        client, peer = free_port(), free_port()
        daemon = self._run(
            "etcd", "--data-dir", f"{self._folder}/etcd", "--unsafe-no-fsync",
            "--listen-client-urls", f"http://127.0.0.1:{client}",
            "--advertise-client-urls", f"http://127.0.0.1:{client}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"default=http://127.0.0.1:{peer}",
        )  # fmt: skip
        daemon.wait_ready(lambda: listens(client), 30)
        return f"http://127.0.0.1:{client}"

    def _run(self, *command: str) -> Daemon:
        name = Path(command[0]).name
        daemon = Daemon(name, command, log=self._folder / f"{name}.log")
        self._daemons.append(daemon)
        daemon.start()
        return daemon


def _kind_of_kubescape() -> dict[str, Any]:
    """Its resource as a definition. Kubescape has none: its own server serves it."""
    group, _, version = API_VERSION.partition("/")
    names = {"kind": KIND, "listKind": f"{KIND}List", "plural": PLURAL, "singular": KIND.lower()}
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = {"name": version, "served": True, "storage": True,
              "schema": {"openAPIV3Schema": anything}}  # fmt: skip
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{group}"},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [served]},
    }


@pytest.fixture(scope="session")
def apiserver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running one without anything in it."""
    wanted = os.environ.get("VEXSTREAM_TEST_APISERVER")
    if not wanted:
        pytest.skip("no API server of Kubernetes: scripts/test-on-apiserver builds one")
    if shutil.which("etcd") is None:
        pytest.skip("no etcd: apt-get install etcd-server")
    with ApiServer(Path(wanted), tmp_path_factory.mktemp("apiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def kubescape_kind(apiserver: ApiServer) -> ApiServer:
    """The server with Kubescape's namespace, and its resource as a kind."""
    apiserver("create", "namespace", "kubescape")
    apiserver.define([_kind_of_kubescape()])
    return apiserver
