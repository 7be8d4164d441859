"""Which cluster a workload is of: equal names in two clusters are two workloads, also where nobody
gave the clusters names, and an upgrade loses nothing of what was seen under no name."""

import asyncio
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.collector.cluster import Cluster, find, named
from services.collector.settings import CollectorSettings
from tests.support.authorities import Authority
from tests.support.cluster_api import UID, ClusterApi
from tests.unit.factories import IMAGE, PERIOD, SECOND, batch
from vexstream.coverage import coverage
from vexstream.evidence import Batch, Evidence
from vexstream.identity import Workload
from vexstream.rules import Rules

EAST = UID
WEST = "e5a0f3c2-11de-4b5e-8c1d-0b6a2f9d4c77"
BARE = Workload("shop", "cart", "web")
RULES = Rules(PERIOD)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClusterApi]:
    with ClusterApi(tmp_path) as served:
        for name, value in served.variables.items():
            monkeypatch.setenv(name, value)
        yield served


def settings(api: ClusterApi, spool: Path | None = None, name: str = "") -> CollectorSettings:
    return CollectorSettings(kubernetes_account_dir=api.account, spool_dir=spool, cluster_name=name)


def test_it_is_asked_for_in_kubernetes_alone_and_only_without_a_name() -> None:
    pod = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
    for given, environment, expected in (
        ("", pod, None), ("east", {}, "east"), ("east", pod, "east"),
        ("-", {}, ""), ("-", pod, ""),
    ):  # fmt: skip
        assert named(CollectorSettings(cluster_name=given), environment).name == expected


async def test_the_clusters_id_is_read_once_and_kept(api: ClusterApi, tmp_path: Path) -> None:
    cluster, problems = named(settings(api)), {"kafka": "not reached yet"}
    await find(cluster, settings(api, tmp_path), problems)
    assert (cluster.name, problems, api.asked) == (EAST, {"kafka": "not reached yet"}, 1)
    await find(cluster, settings(api, tmp_path), problems)
    assert api.asked == 1
    api.stop()
    for uid in (EAST, "garbage"):
        (tmp_path / "cluster").write_text(uid)
        again = Cluster(None)
        finding = asyncio.create_task(find(again, settings(api, tmp_path), problems, 0.01))
        if uid == EAST:
            await finding
            assert (again.name, problems) == (EAST, {"kafka": "not reached yet"})
        else:
            await asyncio.wait({finding}, timeout=0.3)
            assert again.name is None
            finding.cancel()


@pytest.mark.parametrize("wrong", ["status", "uid", "token", "authority"])
async def test_until_there_is_an_answer_nothing_can_be_said(
    api: ClusterApi, tmp_path: Path, wrong: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    right = (api.account / "ca.crt").read_text()
    match wrong:
        case "status":
            api.status = 500
        case "uid":
            api.uid = "east/shop"
        case "token":
            (api.account / "token").write_text("stale")
        case "authority":
            (api.account / "ca.crt").write_bytes(Authority(other, "ca").file.read_bytes())
    cluster, problems = Cluster(None), dict[str, str]()
    finding = asyncio.create_task(find(cluster, settings(api), problems, 0.01))
    while not problems.get("cluster", "").startswith("the "):  # noqa: ASYNC110 - a plain dict
        await asyncio.sleep(0.01)
    assert "kube-system" in problems["cluster"]
    with pytest.raises(ValueError, match="before the cluster is known"):
        cluster.placed(batch(0, 1))
    api.status, api.uid = 200, EAST
    (api.account / "token").write_text("secret")
    (api.account / "ca.crt").write_text(right)
    await finding
    assert (cluster.name, problems) == (EAST, {})


@pytest.mark.parametrize("name", ["a/b", "-a", "--", "a ", "a\n"])
def test_a_clusters_name_cannot_be_taken_for_more(name: str) -> None:
    with pytest.raises(ValidationError):
        CollectorSettings(cluster_name=name)


def run(cluster: str, start: int, end: int, container: str, *, started: int = 0) -> Batch:
    """What a container of the workload did, as the collector of a cluster sends it."""
    return Cluster(cluster).placed(
        batch(start, end, container=container * 64, workload=BARE, started=started)
    )


def covered(*batches: Batch, rules: Rules = RULES) -> dict[str, bool]:
    """Workload -> whether it is covered; the same in whatever order the batches come."""
    answers = []
    for order in permutations(batches):
        evidence = Evidence(IMAGE)
        for one in order:
            evidence.merge(one)
        seen = coverage(evidence.containers, rules)
        answers.append({str(w.workload): w.since_us is not None for w in seen.workloads})
    assert all(answer == answers[0] for answer in answers)
    return answers[0]


def test_a_workload_says_its_cluster_in_few_letters() -> None:
    assert str(run(EAST, 0, 1, "a").workload) == "2f6c3b1e/shop/cart/web"
    assert str(run("east", 0, 1, "a").workload) == "east/shop/cart/web"
    assert str(Workload(EAST, "web", "web")) == "2f6c3b1e/web"
    assert Cluster("").placed(batch(0, 1, workload=BARE)).workload == BARE


def test_what_was_seen_in_one_cluster_does_not_speak_for_the_other() -> None:
    seen = run(EAST, 0, 10, "a"), run(WEST, 5, 10, "b")
    assert covered(*seen) == {"2f6c3b1e/shop/cart/web": True, "e5a0f3c2/shop/cart/web": False}


def test_containers_of_one_name_on_nodes_of_one_name_do_not_fill_each_others_gaps() -> None:
    """Plain containerd knows its containers by names that people give."""
    first, second = (
        Cluster(cluster).placed(batch(*seen, container="web", workload=BARE))
        for cluster, seen in ((EAST, (0, 5)), (WEST, (5, 10)))
    )
    assert not any(covered(first, second).values())
    assert len(covered(first, second)) == 2


def test_containers_that_ran_at_the_upgrade_take_what_was_seen_of_them_along() -> None:
    """And only that: another cluster's part in the bare name stays behind."""
    before = run("", 0, 12, "a"), run("", 5, 12, "b")
    assert covered(*before) == {"shop/cart/web": True}
    after = run(EAST, 13, 14, "a"), run(WEST, 13, 14, "b")
    assert covered(*before, *after) == {
        "2f6c3b1e/shop/cart/web": True, "e5a0f3c2/shop/cart/web": False
    }  # fmt: skip


def test_what_ended_before_the_upgrade_is_judged_by_itself() -> None:
    after = run(EAST, 20, 30, "c", started=20)
    assert covered(run("", 0, 10, "a"), after) == {
        "shop/cart/web": True, "2f6c3b1e/shop/cart/web": True
    }  # fmt: skip
    assert covered(run("", 5, 10, "a"), after)["shop/cart/web"] is False


def test_a_namespaces_learning_period_holds_in_every_cluster_that_has_none_of_its_own() -> None:
    longer, own = {"shop": 20 * SECOND}, {"shop": 20 * SECOND, "east/shop": 5 * SECOND}
    for cluster in ("", "east", EAST):
        seen = run(cluster, 0, 10, "a")
        assert not any(covered(seen, rules=Rules(PERIOD, namespace_periods_us=longer)).values())
    rules = Rules(PERIOD, namespace_periods_us=own)
    assert all(covered(run("east", 0, 5, "a"), rules=rules).values())
    assert not any(covered(run("west", 0, 10, "a"), rules=rules).values())
