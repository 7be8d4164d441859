"""Image archives, the cache they live in, and what is said when something is missing."""

import hashlib
import json
import os
import tarfile
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.local import containerd_setup, image_base, image_demo
from services.local.containerd import Containerd, ContainerdError
from services.local.containerd_cgroups import parent
from services.local.containerd_pods import container_config, pod_config
from services.local.image import unreadable_image
from services.local.image_archive import (
    File,
    ImageConfig,
    ImageError,
    layer_of_directory,
    layer_of_files,
    read_archive,
    write_archive,
)
from services.local.image_cache import KEPT_UNUSED_SECONDS, cached_file
from services.local.process import MissingPrerequisiteError

NAME = "localhost/test/app:7"
FILES = {"/opt/b": File(b"two", 0o755), "/opt/a": File(b"one")}


def _layer(folder: Path, files: dict[str, File]) -> Path:
    layer = folder / "layer.tar"
    layer_of_files(files, layer)
    return layer


def test_every_blob_of_an_archive_is_what_its_digest_says(tmp_path: Path) -> None:
    layer = _layer(tmp_path, FILES)
    archive = write_archive(tmp_path / "image.tar", NAME, [layer, layer], ImageConfig())
    with tarfile.open(archive.path) as tar:
        contents = {
            entry.name: file.read()
            for entry in tar.getmembers()
            if (file := tar.extractfile(entry)) is not None
        }
    blobs = {name: data for name, data in contents.items() if name.startswith("blobs/")}
    for name, content in blobs.items():
        assert name == "blobs/sha256/" + hashlib.sha256(content).hexdigest()
    descriptor = json.loads(contents["index.json"])["manifests"][0]
    assert descriptor["annotations"] == {"org.opencontainers.image.ref.name": "7"}
    assert descriptor["digest"] == archive.manifest_digest
    manifest = json.loads(blobs["blobs/" + descriptor["digest"].replace(":", "/")])
    assert manifest["config"]["digest"] == archive.config_digest
    for part in (descriptor, manifest["config"], *manifest["layers"]):
        assert part["size"] == len(blobs["blobs/" + part["digest"].replace(":", "/")])
    config = json.loads(blobs["blobs/" + archive.config_digest.replace(":", "/")])
    digests = [one["digest"] for one in manifest["layers"]]
    assert config["rootfs"]["diff_ids"] == digests
    assert len(set(digests)) == 1
    assert len(blobs) == 3  # the layer that is there twice is stored once


def test_the_config_says_what_runs(tmp_path: Path) -> None:
    wanted = ImageConfig(("/app",), ("-v",), {"PORT": "1", "PATH": "/bin"}, "/srv")
    archive = write_archive(tmp_path / "i.tar", NAME, [_layer(tmp_path, FILES)], wanted)
    with tarfile.open(archive.path) as tar:
        blob = tar.extractfile("blobs/" + archive.config_digest.replace(":", "/"))
        assert blob is not None
        config = json.load(blob)["config"]
    assert config == {
        "Entrypoint": ["/app"],
        "Cmd": ["-v"],
        "Env": ["PATH=/bin", "PORT=1"],
        "WorkingDir": "/srv",
    }


def test_reading_an_archive_gives_what_writing_gave(tmp_path: Path) -> None:
    layer = _layer(tmp_path, FILES)
    written = write_archive(tmp_path / "image.tar", NAME, [layer], ImageConfig())
    assert read_archive(written.path, NAME) == written


@given(st.dictionaries(st.from_regex(r"/[a-z]{1,8}\Z"), st.binary(max_size=40), max_size=5))
def test_the_same_files_give_the_same_image(
    tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("images")
    digests = set()
    for turn in (dict(contents), dict(reversed(contents.items()))):
        layer = _layer(folder, {path: File(content) for path, content in turn.items()})
        digests.add(write_archive(folder / "i.tar", NAME, [layer], ImageConfig()).manifest_digest)
    assert len(digests) == 1


def test_a_packed_directory_keeps_modes_times_and_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "opt").mkdir(parents=True)
    (root / "opt" / "tool").write_text("x")
    (root / "opt" / "tool").chmod(0o750)
    os.utime(root / "opt" / "tool", (1_600_000_000, 1_600_000_000))
    (root / "opt" / "link").symlink_to("tool")
    (root / "other").write_text("not packed")
    layer_of_directory(root, tmp_path / "layer.tar", "opt")
    with tarfile.open(tmp_path / "layer.tar") as tar:
        assert tar.getnames() == ["opt", "opt/link", "opt/tool"]
        tool = tar.getmember("opt/tool")
        assert (tool.mode, tool.mtime) == (0o750, 1_600_000_000)
        assert tar.getmember("opt/link").linkname == "tool"


def test_a_directory_that_is_not_there_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot pack"):
        layer_of_directory(tmp_path / "nothing", tmp_path / "layer.tar")


def test_the_unreadable_image_has_right_digests_and_a_layer_that_is_none(tmp_path: Path) -> None:
    archive = unreadable_image(tmp_path / "unreadable.tar")
    with tarfile.open(archive.path) as tar:
        file = tar.extractfile("blobs/" + archive.manifest_digest.replace(":", "/"))
        assert file is not None
        layer = json.load(file)["layers"][0]
        blob = tar.extractfile("blobs/" + layer["digest"].replace(":", "/"))
        assert blob is not None
        content = blob.read()
    assert layer["mediaType"].endswith("+gzip")
    assert layer["digest"] == "sha256:" + hashlib.sha256(content).hexdigest()
    (tmp_path / "layer").write_bytes(content)
    assert not tarfile.is_tarfile(tmp_path / "layer")


def test_a_cached_file_is_built_once_for_many_who_want_it(tmp_path: Path) -> None:
    built = []

    def build(path: Path) -> None:
        built.append(path)
        time.sleep(0.05)
        path.write_text("content")

    def want() -> None:
        assert cached_file(tmp_path, "thing", ["recipe"], build).read_text() == "content"

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1


def test_another_recipe_is_another_file(tmp_path: Path) -> None:
    first = cached_file(tmp_path, "thing", {"a": 1}, lambda path: path.touch())
    assert cached_file(tmp_path, "thing", {"a": 2}, lambda path: path.touch()) != first
    assert first.exists()


def test_a_build_that_fails_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    def build(path: Path) -> None:
        path.write_text("half")
        raise ImageError("the network is away")

    with pytest.raises(ImageError):
        cached_file(tmp_path, "thing", "recipe", build)
    assert [path.name for path in tmp_path.iterdir()] == ["thing.lock"]
    assert cached_file(tmp_path, "thing", "recipe", lambda path: path.touch()).exists()


def test_files_of_old_recipes_go_after_a_day_without_use(tmp_path: Path) -> None:
    def touch(path: Path) -> None:
        path.touch()

    long_ago = time.time() - KEPT_UNUSED_SECONDS - 60
    unused = cached_file(tmp_path, "thing", 1, touch)
    other_name = cached_file(tmp_path, "thing-else", 1, touch)
    used = cached_file(tmp_path, "thing", 2, touch)
    for path in (unused, used, other_name):
        os.utime(path, (long_ago, long_ago))
    cached_file(tmp_path, "thing", 2, touch)
    cached_file(tmp_path, "thing", 3, touch)
    assert (unused.exists(), used.exists(), other_name.exists()) == (False, True, True)


def test_the_demo_application_is_all_in_its_image() -> None:
    sources = image_demo.sources()
    assert set(sources) == {"/opt/app/app/__init__.py", "/opt/app/app/__main__.py"}
    compile(sources["/opt/app/app/__main__.py"].content, "app", "exec")


def test_debootstrap_uses_the_archive_apt_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt = tmp_path / "apt-get"
    lines = (
        "Debian-Security http://a/security",
        "Debian http://a/debian",
        "Debian http://b/debian",
    )
    apt.write_text("#!/bin/sh\n" + "".join(f"echo Debian {line}\n" for line in lines))
    apt.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert image_base.debian_mirror() == "http://a/debian"
    apt.write_text("#!/bin/sh\necho Ubuntu Ubuntu http://a/ubuntu\n")
    assert image_base.debian_mirror() is None
    apt.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert image_base.debian_mirror() is None


def test_without_root_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MissingPrerequisiteError, match="needs root"):
        containerd_setup.require_prerequisites()
    with pytest.raises(MissingPrerequisiteError, match="needs root"):
        image_base.debian_base(tmp_path, print)


def test_missing_programs_are_named_with_the_command_that_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        "shutil.which", lambda name, path=None: None if name in ("runc", "gcc") else name
    )
    with pytest.raises(MissingPrerequisiteError) as raised:
        containerd_setup.require_prerequisites()
    assert str(raised.value) == (
        "missing runc, gcc: apt-get install --no-install-recommends runc gcc libc6-dev"
    )


def test_a_state_folder_too_long_for_a_socket_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containerd_setup, "require_prerequisites", lambda: None)
    with pytest.raises(ContainerdError, match="choose a shorter folder"):
        Containerd(tmp_path / ("x" * 100), cache=tmp_path).start()
    assert list(tmp_path.iterdir()) == []


def test_pods_are_labelled_and_placed_as_kubelet_does() -> None:
    pod = pod_config("web", "shop", "1-2-3", Path("/logs"))
    assert pod.linux.cgroup_parent == parent("1-2-3") == "/kubepods/besteffort/pod1-2-3"
    container = container_config("image:1", "web", pod, ["-v"], {"A": "b"}, [])
    assert dict(container.labels) == {
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": "1-2-3",
        "io.kubernetes.container.name": "web",
    }
    assert [(env.key, env.value) for env in container.envs] == [("A", "b")]
