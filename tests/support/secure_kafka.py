"""Apache Kafka as production has it: TLS, SCRAM, and nobody may do what no rule grants."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import for_code
from aiokafka.protocol.admin import CreateAclsRequest, DescribeAclsRequest

from services.local.ports import LOOPBACK, free_port
from tests.support.authorities import Authority
from tests.support.kafka_broker import ApacheKafka

_USERS = Path(__file__).parents[2] / "deploy/kustomize/overlays/production/users.yaml"
_RESOURCES = {"topic": 2, "group": 3, "cluster": 4}
_PATTERNS = {"literal": 3, "prefix": 4}
_OPERATIONS = {
    "Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8,
    "DescribeConfigs": 10, "AlterConfigs": 11,
}  # fmt: skip
_ANY, _ALLOW = 1, 3


@dataclass(frozen=True, slots=True)
class Rule:
    """What an account may do; the numbers are those of Kafka's protocol."""

    principal: str
    resource: int
    name: str
    pattern: int
    operation: int


def production_rules() -> dict[str, list[Rule]]:
    """Account -> its rules, as the production overlay has them."""
    rules: dict[str, list[Rule]] = {}
    for document in yaml.safe_load_all(_USERS.read_text()):
        name = document["metadata"]["name"]
        rules[name] = [
            Rule(
                f"User:{name}", _RESOURCES[acl["resource"]["type"]], acl["resource"]["name"],
                _PATTERNS[acl["resource"]["patternType"]], _OPERATIONS[operation],
            )
            for acl in document["spec"]["authorization"]["acls"]
            for operation in acl["operations"]
        ]  # fmt: skip
    return rules


class SecureKafka(ApacheKafka):
    """The accounts speak SASL_SSL; the test itself goes another way in, and may do anything."""

    def __init__(self, directory: Path, authority: Authority, passwords: Mapping[str, str]) -> None:
        super().__init__(directory)
        self.secure_bootstrap = f"{LOOPBACK}:{free_port()}"
        self._ca = authority
        self._folder = directory
        self._passwords = dict(passwords)
        self.format_options = tuple(
            part
            for name, password in passwords.items()
            for part in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
        )

    def settings(self, account: str) -> dict[str, Any]:
        """Fields of a service's settings for one of the accounts."""
        return {
            "kafka_bootstrap_servers": self.secure_bootstrap,
            "kafka_security_protocol": "SASL_SSL",
            "kafka_username": account,
            "kafka_password": self._passwords[account],
            "kafka_ca_file": str(self._ca.file),
        }

    def _settings(self) -> dict[str, str]:
        key, certificate = self._ca.sign_server(self._folder, "kafka")
        store = self._folder / "kafka.pem"
        store.write_bytes(key.read_bytes() + certificate.read_bytes())
        login = "org.apache.kafka.common.security.scram.ScramLoginModule"
        base = super()._settings()
        return base | {
            "listeners": f"{base['listeners']},CLIENTS://{self.secure_bootstrap}",
            "advertised.listeners": f"{base['advertised.listeners']},"
            f"CLIENTS://{self.secure_bootstrap}",
            "listener.security.protocol.map": base["listener.security.protocol.map"]
            + ",CLIENTS:SASL_SSL",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.clients.scram-sha-512.sasl.jaas.config": f"{login} required;",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(store),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
            "allow.everyone.if.no.acl.found": "false",
            "auto.create.topics.enable": "false",
        }

    async def grant(self, rules: Iterable[Rule]) -> None:
        """Creates the rules; returns when they are in force."""
        wanted = set(rules)
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        try:
            for r in wanted:
                answer = await admin._send_request(
                    CreateAclsRequest(
                        r.resource, r.name, r.pattern, r.principal, "*", r.operation, _ALLOW
                    )
                )
                for code, message in answer.creation_responses:
                    if code:
                        raise for_code(code)(message)
            async with asyncio.timeout(60):  # the authorizer follows the controller's log
                while await _in_force(admin) < len(wanted):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        finally:
            await admin.close()


async def _in_force(admin: AIOKafkaAdminClient) -> int:
    """Rules of all accounts on everything."""
    answer = await admin._send_request(
        DescribeAclsRequest(_ANY, None, _ANY, None, None, _ANY, _ANY)
    )
    return sum(len(resource[-1]) for resource in answer.resources)
