"""From kernel ids and runtime strings to containers, images and owners."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from cri_api.v1 import api_pb2

from services.collector.cgroups import CgroupIndex, candidates, find_root
from services.collector.errors import CgroupError
from services.collector.runtime import CriRuntime, image_of, nameless, workload_of
from services.common.mounts import mount_of, parse_mountinfo
from vexstream.identity import NO_IMAGE, Digest, Image, Workload

ID = "0123456789abcdef" * 4
HEX = "c" * 64
_CREATED_US = 29_734_561 * 60_000_000


@pytest.mark.parametrize(
    "path",
    [
        f"/kubepods/burstable/pod3f0e/{ID}",
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-pod3.slice/cri-containerd-{ID}.scope",
        f"/kubepods.slice/crio-{ID}.scope",
        f"/system.slice/docker-{ID}.scope",
        f"/docker/{ID}",
        f"/libpod_parent/libpod-{ID}",
        f"/system.slice/web.service/libpod-payload-{ID}",
        f"/machine.slice/libpod-{ID}.scope/container",
        f"/k8s.io/{ID}",
        f"/system.slice/nerdctl-{ID}.scope",
        f"/kubepods/pod3f0e/{ID}/system.slice/nginx.service",
    ],
)
def test_the_container_is_found_in_every_path_style(path: str) -> None:
    assert ID in candidates(path)


@pytest.mark.parametrize("outer", [f"/kubepods/pod1/{ID}", f"/libpod_parent/libpod-{ID}"])
def test_below_a_containers_id_no_other_counts(outer: str) -> None:
    found = candidates(f"{outer}/docker/{HEX}")
    assert ID in found
    assert HEX not in found, "a container names the cgroups within its own"


def test_a_pod_of_podman_is_no_container() -> None:
    assert ID in candidates(f"/libpod_parent/{HEX}/libpod-{ID}")


def test_a_node_that_is_a_container_is_not_taken_for_the_one_that_is_meant(tmp_path: Path) -> None:
    node = f"/docker/{HEX}/kubelet"
    lasting = tmp_path / "kubepods" / ID
    lasting.mkdir(parents=True)
    index = CgroupIndex(tmp_path)
    index.learn(lasting.stat().st_ino, f"{node}/kubepods/{ID}")
    index.learn(99, f"{node}/kubepods/brief")
    assert index.path(lasting.stat().st_ino) == f"/kubepods/{ID}"
    assert index.path(99) == "/kubepods/brief", "learnt from the one that is there"


def test_a_container_without_an_id_is_known_with_its_namespace() -> None:
    assert "default/web" in candidates("/default/web")
    assert "default/web" not in candidates("/system.slice/web.service")


def test_an_index_finds_what_a_scan_and_the_kernel_told(tmp_path: Path) -> None:
    group = tmp_path / "kubepods" / ID / "child"
    group.mkdir(parents=True)
    (group / "cgroup.procs").write_text("12\n0\n13\n")
    index = CgroupIndex(tmp_path)
    index.scan()
    index.learn(99, f"/kubepods/{ID}/brief")
    child = group.stat().st_ino
    assert index.path(child) == f"/kubepods/{ID}/child"
    assert index.path(tmp_path.stat().st_ino) == "/"
    assert set(index.ids_of(ID)) == {group.parent.stat().st_ino, child, 99}
    assert index.processes(child) == [12, 13]
    assert index.processes(99) == []
    assert index.missing() == {99}
    index.forget(99)
    assert index.path(99) is None


def test_a_missing_hierarchy_is_explained(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text("22 27 0:21 / /proc rw - proc proc rw\n")
    with pytest.raises(CgroupError, match="mount -t cgroup2"):
        find_root(None, table)
    with pytest.raises(CgroupError, match="VEXSTREAM_CGROUP_ROOT"):
        find_root(tmp_path)
    (tmp_path / "cgroup.procs").write_text("")
    table.write_text(f"22 27 0:21 / {tmp_path} rw shared:1 - cgroup2 cgroup2 rw\n")
    assert find_root(None, table) == tmp_path


def test_the_mount_of_a_path_is_the_innermost_and_newest() -> None:
    mounts = parse_mountinfo(
        b"1 0 8:1 / / rw - ext4 /dev/a rw\n"
        b"2 1 0:55 / / rw master:3 - overlay overlay rw\n"
        b"3 2 8:1 /srv/my\\040data /data rw - ext4 /dev/a rw\n"
    )
    root, data = mount_of(b"/database/x", mounts), mount_of(b"/data/x", mounts)
    assert root is not None
    assert data is not None
    assert (root.id, root.device, root.fs_type) == (2, 55, "overlay")
    assert (data.id, data.device, data.root) == (3, 8 << 20 | 1, b"/srv/my data")


def test_an_image_is_known_by_its_config_digest_and_every_alias() -> None:
    image = image_of(
        f"sha256:{HEX}",
        [f"docker.io/library/app@sha256:{'d' * 64}", "broken", "app@sha256:short"],
        ["docker.io/library/app:1", f"app@sha256:{'d' * 64}", f"sha256:{HEX}", ""],
    )
    assert image is not None
    assert image.config_digest == f"sha256:{HEX}"
    assert image.manifest_digests == (f"sha256:{'d' * 64}",)
    assert image.names == ("docker.io/library/app:1",)
    assert image_of(HEX, [], []) == image_of(f"sha256:{HEX}", [], [])  # CRI-O's spelling
    assert image_of("app:1", [], []) is None


@pytest.mark.parametrize(
    ("reference", "manifests", "names"),
    [
        ("localhost/app:1", (), ("localhost/app:1",)),
        (f"acme/app@sha256:{HEX}", (f"sha256:{HEX}",), ()),
        (f"host:5000/app:1@sha256:{HEX}", (f"sha256:{HEX}",), ("host:5000/app:1",)),
        (f"sha256:{HEX}", (f"sha256:{HEX}",), ()),
        ("app@sha256:short", (), ()),
        (HEX, (), ()),
        ("", (), ()),
    ],
)
def test_what_an_image_is_called_remains_where_nobody_knows_its_digest(
    reference: str, manifests: tuple[Digest, ...], names: tuple[str, ...]
) -> None:
    assert nameless([reference]) == Image(NO_IMAGE, manifests, names)


class _NoImages:
    """A CRI whose images were all removed."""

    async def ImageStatus(self, request: object, **_: float) -> object:  # noqa: N802
        return api_pb2.ImageStatusResponse()


@pytest.mark.parametrize(
    ("image_id", "image_ref", "name", "expected"),
    [
        ("", f"sha256:{HEX}", "app:1", Image(Digest(f"sha256:{HEX}"), (), ("app:1",))),
        ("", "app:1", f"sha256:{HEX}", Image(Digest(f"sha256:{HEX}"), (), ("app:1",))),
        (HEX, f"app@sha256:{'d' * 64}", "app:1",
         Image(Digest(f"sha256:{HEX}"), (Digest(f"sha256:{'d' * 64}"),), ("app:1",))),
        ("", f"app@sha256:{HEX}", "app:1", Image(NO_IMAGE, (Digest(f"sha256:{HEX}"),), ("app:1",))),
    ],
)  # fmt: skip
async def test_a_pods_container_keeps_the_id_of_an_image_that_was_removed(
    image_id: str, image_ref: str, name: str, expected: Image
) -> None:
    runtime = CriRuntime("unix:///nowhere")
    runtime._images = _NoImages()
    status = SimpleNamespace(
        image=api_pb2.ImageSpec(image=name), image_ref=image_ref, image_id=image_id
    )
    assert await runtime._image(status) == expected
    await runtime.close()


@pytest.mark.parametrize(
    ("pod", "pod_labels", "owner"),
    [
        ("cart-5d4f8c7b9-x2x7q", {"pod-template-hash": "5d4f8c7b9"}, "cart"),
        ("cart-5d4f8c7b9-x2x7q", {}, "cart-5d4f8c7b9-x2x7q"),
        ("cart-5d4f8c7b9-x2x7q", {"pod-template-hash": "77777"}, "cart-5d4f8c7b9-x2x7q"),
        ("db-0", {"statefulset.kubernetes.io/pod-name": "db-0"}, "db-0"),
        (
            "agent-x2x7q",
            {"controller-revision-hash": "6d5f", "pod-template-generation": "3"},
            "agent",
        ),
        ("cart-5d4f8c7b9-debug", {"pod-template-hash": "5d4f8c7b9"}, "cart-5d4f8c7b9-debug"),
        ("cart-5d4f8c7b9-x2x7", {"pod-template-hash": "5d4f8c7b9"}, "cart-5d4f8c7b9-x2x7"),
        ("import-again", {"job-name": "import"}, "import-again"),
        ("db-0", {"controller-revision-hash": "db-6d5f"}, "db-0"),
        ("import-x2x7q", {"job-name": "import"}, "import"),
        ("import-x2x7q", {"job-name": "export"}, "import-x2x7q"),
        ("backup-29734560-x2x7q", {"batch.kubernetes.io/job-name": "backup-29734560"}, "backup"),
        ("shard-29734560-7-x2x7q", {"job-name": "shard-29734560"}, "shard-7"),
        ("dump-20260701-x2x7q", {"job-name": "dump-20260701"}, "dump-20260701"),
    ],
)
def test_the_owner_loses_its_suffix_only_when_the_label_proves_it(
    pod: str, pod_labels: dict[str, str], owner: str
) -> None:
    labels = {
        "io.kubernetes.pod.name": pod,
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.container.name": "app",
    }
    assert workload_of(labels, pod_labels, "ignored", _CREATED_US) == Workload("shop", owner, "app")


def test_a_container_outside_kubernetes_is_its_own_owner() -> None:
    assert workload_of({}, {}, "web", 0) == Workload("", "web", "web")
