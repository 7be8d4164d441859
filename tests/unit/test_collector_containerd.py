"""Which image a container of plain containerd runs, when its record was removed or moved."""

from collections.abc import AsyncIterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from services.collector.containerd import ContainerdRuntime
from services.collector.containerd_api import _TYPES, Found, chain_id
from services.collector.containerd_images import ContainerdImages
from services.collector.runtime import ContainerInfo
from vexstream.identity import NO_IMAGE, Digest, Image, Workload

MANIFEST, OTHER_MANIFEST = "sha256:" + "1" * 64, "sha256:" + "2" * 64
CONFIG, OTHER_CONFIG = "sha256:" + "3" * 64, "sha256:" + "4" * 64
LAYERS, OTHER_LAYERS = "sha256:" + "5" * 64, "sha256:" + "6" * 64
NAME, OTHER_NAME = "localhost/app:1", "localhost/app:2"
CREATED = 100


class Store:
    """Stands for containerd's interface."""

    def __init__(self) -> None:
        self.records: dict[str, tuple[str, int]] = {}
        self.snapshot = LAYERS
        self.shim = "io.containerd.runc.v2"
        self.layers = {CONFIG: LAYERS, OTHER_CONFIG: OTHER_LAYERS}
        self.configs = {MANIFEST: CONFIG, OTHER_MANIFEST: OTHER_CONFIG}
        self.created = [CREATED]
        self.read: list[str] = []
        self.told: list[tuple[str, str, str]] = []
        self.namespaces = {"k8s.io": [], "plain": ["web"], "empty": []}

    async def call(self, method: str, *_: str, **fields: str) -> Any:
        name = method.rpartition(".")[2]
        if name == "Containers/Get":
            one = _container(fields["id"])
            return SimpleNamespace(
                container=SimpleNamespace(
                    id=one.id,
                    image=one.image,
                    runtime=_TYPES["Shim"](name=self.shim),
                    snapshotter="overlayfs",
                    snapshot_key=one.snapshot_key,
                    created_at=_time(self.created.pop(0) if self.created[1:] else self.created[0]),
                )
            )
        if name == "Namespaces/List":
            return SimpleNamespace(namespaces=[SimpleNamespace(name=n) for n in self.namespaces])
        if name == "Containers/List":
            listed = [_container(one) for one in self.namespaces[_[2]]]
            return SimpleNamespace(containers=listed)
        if name == "Tasks/List":
            return SimpleNamespace(tasks=[])
        if name == "Snapshots/Stat":
            info = SimpleNamespace(parent=self.snapshot)
            return SimpleNamespace(info=info) if self.snapshot else None
        if name == "Images/List":
            return SimpleNamespace(images=[self._record(one) for one in self.records])
        assert name == "Images/Get"
        name = fields["name"]
        return SimpleNamespace(image=self._record(name)) if name in self.records else None

    def _record(self, name: str) -> Any:
        digest, updated = self.records[name]
        return SimpleNamespace(
            name=name, target=SimpleNamespace(digest=digest), updated_at=_time(updated)
        )

    async def events(self) -> AsyncIterator[tuple[Any, Any]]:
        for topic, name, image in self.told:
            envelope = SimpleNamespace(namespace="plain", topic=topic, timestamp=_time(CREATED))
            yield envelope, SimpleNamespace(id=name, container_id=name, image=image)

    async def images(self, namespace: str, digest: str) -> list[Found]:
        self.read.append(digest)
        config = self.configs.get(digest)
        return [Found(config, (digest,), "")] if config else []

    async def chain(self, namespace: str, config: str) -> str:
        return self.layers.get(config, "")


def _container(name: str) -> Any:
    """One of a build is a container of no image."""
    image, key = ("", "") if name.startswith("build") else (NAME, name)
    return SimpleNamespace(id=name, created_at=_time(7), image=image, snapshot_key=key)


def _time(seconds: int) -> Any:
    return SimpleNamespace(seconds=seconds, nanos=0)


@pytest.fixture
def store() -> Store:
    return Store()


async def _image(store: Store, runtime: ContainerdRuntime | None = None) -> Image:
    info = await (runtime or _runtime(store)).describe("plain/web")
    assert info is not None
    return info.image


def _runtime(store: Store) -> ContainerdRuntime:
    runtime = ContainerdRuntime("unix:///nowhere")
    runtime._api = store  # type: ignore[assignment]
    runtime._images = ContainerdImages(runtime._api)
    return runtime


async def test_the_name_says_it_where_the_layers_are_its_own(store: Store) -> None:
    store.records = {NAME: (MANIFEST, CREATED + 50)}  # pulled again since, and the same
    assert (await _image(store)).config_digest == CONFIG


async def test_the_layers_say_it_where_the_name_is_gone(store: Store) -> None:
    store.records = {OTHER_NAME: (MANIFEST, 1), "else": (OTHER_MANIFEST, 1)}
    found = await _image(store)
    assert (found.config_digest, found.names) == (CONFIG, (OTHER_NAME,))


async def test_the_layers_say_it_where_the_name_is_another_images(store: Store) -> None:
    store.records = {NAME: (OTHER_MANIFEST, CREATED - 50), OTHER_NAME: (MANIFEST, 1)}
    assert (await _image(store)).config_digest == CONFIG
    del store.records[OTHER_NAME]
    assert await _image(store) == Image(NO_IMAGE, (), (NAME,), Digest(LAYERS))


async def test_what_ran_before_is_remembered_by_its_layers(store: Store) -> None:
    runtime = _runtime(store)
    store.records = {NAME: (MANIFEST, 1)}
    known = await _image(store, runtime)
    store.records, store.layers = {}, {}
    assert await _image(store, runtime) == known


@pytest.mark.parametrize("then", [True, False])
async def test_one_with_its_name_and_layers_may_be_another_unless_that_was_its_name_then(
    store: Store, then: bool
) -> None:
    """The one that the container runs may have had these layers and this name before."""
    runtime = _runtime(store)
    store.records = {NAME: (MANIFEST, CREATED if then else CREATED + 1)}
    named = Image(Digest(CONFIG), (Digest(MANIFEST),), (NAME,))
    doubted = replace(named, layers=Digest(LAYERS))
    assert await _image(store, runtime) == (named if then else doubted)
    store.records = {OTHER_NAME: (OTHER_MANIFEST, CREATED)}
    store.layers[OTHER_CONFIG] = LAYERS
    found = await _image(store, runtime)
    assert found.config_digest == (CONFIG if then else OTHER_CONFIG), "of what is sure it is sure"


async def test_one_that_is_known_by_its_layers_alone_may_be_another(store: Store) -> None:
    runtime = _runtime(store)
    store.records = {OTHER_NAME: (MANIFEST, 1)}
    doubted = Image(Digest(CONFIG), (Digest(MANIFEST),), (OTHER_NAME,), Digest(LAYERS))
    assert await _image(store, runtime) == doubted
    store.records = {}
    assert await _image(store, runtime) == doubted, "as one that ran before, too"


async def test_of_two_images_with_the_same_layers_it_is_neither(store: Store) -> None:
    store.layers[OTHER_CONFIG] = LAYERS
    store.records = {"one": (MANIFEST, 1), "two": (OTHER_MANIFEST, 1)}
    assert (await _image(store)).config_digest == NO_IMAGE
    store.records[NAME] = (OTHER_MANIFEST, 1)
    assert (await _image(store)).config_digest == OTHER_CONFIG


async def test_what_a_record_refers_to_is_read_once(store: Store) -> None:
    runtime = _runtime(store)
    store.records = {"one": (MANIFEST, 1), "two": (OTHER_MANIFEST, 1)}
    await _image(store, runtime)
    assert store.read == [MANIFEST, OTHER_MANIFEST]
    await _image(store, runtime)
    store.records["two"] = (OTHER_MANIFEST, 2)  # pulled again: more of its platforms may be there
    await _image(store, runtime)
    assert store.read == [MANIFEST, OTHER_MANIFEST, OTHER_MANIFEST]
    store.layers = {CONFIG: LAYERS}
    store.records["two"] = (OTHER_MANIFEST, 3)
    for _ in range(2):
        await _image(store, runtime)
    assert store.read[3:] == [OTHER_MANIFEST, OTHER_MANIFEST], "its configuration is not there yet"
    store.layers[OTHER_CONFIG] = LAYERS
    assert (await _image(store, runtime)).config_digest == NO_IMAGE, "now it is, and fits as well"


@pytest.mark.parametrize(("updated", "config"), [(CREATED, CONFIG), (CREATED + 1, NO_IMAGE)])
async def test_without_layers_a_name_counts_that_has_not_moved_since(
    store: Store, updated: int, config: str
) -> None:
    store.records, store.snapshot = {NAME: (MANIFEST, updated)}, ""
    assert (await _image(store)).config_digest == config
    info = ContainerInfo(
        "plain/web", Workload("plain", "web", "web"), Image(NO_IMAGE, (), (NAME,)),
        CREATED * 1_000_000,
    )  # fmt: skip
    assert (await _runtime(store).named(info)).config_digest == config


async def test_one_that_another_one_replaces_while_it_is_asked_for_is_gone(store: Store) -> None:
    store.records = {NAME: (MANIFEST, 1)}
    store.created = [CREATED, CREATED + 1]
    assert await _runtime(store).describe("plain/web") is None


async def test_a_listing_says_when_each_was_made(store: Store) -> None:
    runtime = _runtime(store)
    (listed,) = await runtime.list()
    assert (listed.id, listed.created_at_us) == ("plain/web", 7_000_000)
    assert [runtime.owns(path) for path in ("/plain/web", "/empty/gone", "/k8s.io/x", "/a/b")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_layers_are_called_as_the_image_specification_has_it() -> None:
    one, two = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    assert chain_id([]) == ""
    assert chain_id([one]) == one
    both = "sha256:ccd722928bd92476ba1745586fed6e45a102504185ad88cd89e01ff116fd146c"
    assert chain_id([one, two]) == both  # sha256sum of "<one> <two>"


async def test_a_cgroup_is_its_own_by_the_namespace_though_nothing_runs_there_now(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What came and went between two listings, while no events were told, was in none of them."""
    names = [SimpleNamespace(name=name) for name in ("plain", "moby", "k8s.io")]
    answers = {
        "Namespaces/List": SimpleNamespace(namespaces=names),
        "Containers/List": SimpleNamespace(containers=[]),
        "Tasks/List": SimpleNamespace(tasks=[]),
    }

    async def call(method: str, *_: str) -> Any:
        return answers[method.rpartition(".")[2]]

    runtime = ContainerdRuntime("unix:///nowhere")
    monkeypatch.setattr(runtime, "_api", SimpleNamespace(call=call))
    assert await runtime.list() == []
    assert runtime.owns("/plain/brief")
    assert not runtime.owns("/moby/brief")
    assert not runtime.owns("/system.slice/plain")
    assert runtime.owns("/plain/brief/inner"), "a container may have made cgroups in its own"
    assert runtime.owns(f"/system.slice/nerdctl-{'5' * 64}.scope")
    assert not runtime.owns("/system.slice/nerdctl-web.scope")
    assert not runtime.owns(f"/docker/{'6' * 64}/system.slice/nerdctl-{'5' * 64}.scope")
    assert not runtime.owns("/plain")


async def test_what_runs_no_image_is_no_container_of_any(store: Store) -> None:
    """BuildKit's steps: to keep all images of the node open for each of them would be noise."""
    store.namespaces["plain"] = ["build", "web"]
    runtime = _runtime(store)
    assert [one.id for one in await runtime.list()] == ["plain/web"]
    assert [runtime.owns(f"/plain/{name}") for name in ("build", "web", "gone")] == [
        False, True, True,
    ]  # fmt: skip


async def test_nothing_is_told_of_what_runs_no_image(store: Store) -> None:
    """But of one that takes its name, and of one of which its snapshot tells."""
    made, begun = "/containers/create", "/tasks/start"
    store.told = [(made, "build", ""), (begun, "build", ""), (made, "web", ""), (begun, "web", "")]
    runtime = _runtime(store)
    assert [told.id async for told in runtime.told(0)] == ["plain/web", "plain/web"]
    assert not runtime.owns("/plain/build")
    store.told = [(made, "build", NAME), (begun, "build", "")]
    assert [told.id async for told in runtime.told(0)] == ["plain/build", "plain/build"]
    assert runtime.owns("/plain/build")
