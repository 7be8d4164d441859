"""The rows of the table of paths in docs/collector.md: by which name a file is reported."""

import shutil
import subprocess
from pathlib import Path

import pytest

from services.collector.cgroups import CgroupIndex
from services.collector.events import CgroupEvent
from services.collector.hold import Hold
from services.collector.runtime import ContainerInfo
from services.collector.source import EventSource
from services.collector.tracker import Tracker
from services.local.containerd import Container, Containerd
from services.local.containerd_pods import Mount
from tests.support.probe import NAME, TIMES, Observer, cgroup_of
from tests.unit.factories import IMAGE, WEB
from vexstream.batching import Limits
from vexstream.evidence import Use

pytestmark = pytest.mark.real

MADE = Use.OPENED | Use.REWRITTEN
MAX_PATH = 4095


def test_lower_file(observer: Observer) -> None:
    seen = observer.uses("/bin/cat", "/opt/data/host")
    assert seen[b"/opt/data/host"] == Use.OPENED


def test_upper_file(observer: Observer) -> None:
    assert observer.uses("/opt/uses", "creat", "/opt/data/made") == {b"/opt/data/made": MADE}


def test_symlinks_in_the_middle_and_at_the_end(observer: Observer) -> None:
    observer.uses("/bin/sh", "-c", "ln -s /opt/data /opt/a && ln -s ../opt/a/retry /opt/b")
    assert observer.uses("/opt/uses", "open", "/opt/b") == {b"/opt/data/retry": Use.OPENED}


def test_relative_to_a_directory_descriptor(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "openat", "data/./../data/dirfd")
    assert seen == {b"/opt/data/dirfd": Use.OPENED}


def test_a_renamed_file_is_credited_by_both_names(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "renamed", "/opt/data/renamed")
    assert seen == {b"/opt/data/renamed.new": MADE, b"/opt/data/renamed": Use.OPENED}


def test_a_renamed_program_is_credited_by_both_names(observer: Observer) -> None:
    prefix = "/opt/renamed_and_run"
    seen = observer.uses("/opt/uses", "each", str(TIMES), "renamed_and_run", prefix)
    run = observer.by_kernel(Use.EXECUTED, program=True)
    for n in range(TIMES):
        assert seen[f"{prefix}{n}.new".encode()] == run | Use.REWRITTEN
        assert seen[f"{prefix}{n}".encode()] == run


def test_a_new_hard_link_is_credited_to_the_name_in_the_image(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "new_link", "/opt/data/new_link")
    assert seen == {b"/opt/data/new_link.new": MADE, b"/opt/data/new_link": Use.OPENED}


def test_what_is_copied_to_be_changed_was_read_by_nobody(observer: Observer) -> None:
    seen = observer.uses("/bin/chmod", "600", "/opt/data/changed")
    assert seen[b"/usr/bin/chmod"] & Use.EXECUTED
    assert all(path.startswith((b"/usr/", b"/etc/")) for path in seen), seen


def test_code_that_was_copied_to_a_volume_before(
    containerd: Containerd, uses_container: Container, core_source: EventSource, tmp_path: Path
) -> None:
    """As an entrypoint does at its first start, or a runtime that fills a volume."""
    volume = tmp_path / "pods/0a1b-2c/volumes/kubernetes.io~csi/pvc/mount"
    module = volume / "lib/site-packages/acme/core.py"
    module.parent.mkdir(parents=True)
    module.write_text("ANSWER = 42\n")
    mounts = [Mount(volume.parent, "/data")]
    first = containerd.run(NAME, "first", mounts=mounts)
    copied = containerd.exec(first, ["/bin/cp", "/bin/cat", "/data/mount/cat"])
    assert copied.exit_code == 0, copied.stderr
    script = volume / "tool"
    script.write_text("#!/bin/cat\n")
    script.chmod(0o755)
    later = containerd.run(NAME, "later", mounts=mounts)
    observer = Observer(containerd, later, core_source)
    containerd.exec(later, ["/data/mount/cat", "/data/mount/lib/site-packages/acme/core.py"])
    containerd.exec(later, ["/bin/cat", "/opt/data/host"])
    containerd.exec(
        later, ["/bin/sh", "-c", "mkfifo /tmp/f; /data/mount/tool /tmp/f >/dev/null 2>&1 & echo"]
    )
    events = observer.events()
    for container in (first, later):
        containerd.stop(container)
    tracker = Tracker(
        node="n", run="r", attached_at_us=0, index=CgroupIndex(tmp_path), limits=Limits(),
        hold=Hold(max_events=1000, max_bytes=1_000_000, max_age_us=1),
    )  # fmt: skip
    tracker.begin(ContainerInfo("a" * 64, WEB, IMAGE, 1, 0))
    tracker.handle([CgroupEvent(observer.cgroup, "/pod/" + "a" * 64), *events], 2)
    seen = {access.path: access.use for batch in tracker.cut(3) for access in batch.accesses}
    assert seen[b"/mount/cat"] == Use.EXECUTED | Use.MAPPED | Use.REWRITTEN
    assert seen[b"/data/mount/tool"] == Use.EXECUTED | Use.REWRITTEN
    assert seen[b"/mount/lib/site-packages/acme/core.py"] == Use.OPENED | Use.REWRITTEN
    assert seen[b"/opt/data/host"] == Use.OPENED


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("/usr/bin/perl /data/tool", b"/data/tool"),
        ("/usr/bin/perl -w -I /opt /data/tool", b"/data/tool"),
        ("/data/perl /data/tool", b"/data/tool"),
        ("/bin/sh /data/waits x", b"/data/waits"),
        ("cd /data; exec /bin/sh ./waits", b"/data/waits"),
        ("/bin/sleep 61 /data/tool", None),
        ("/usr/bin/perl /opt/waits /data/blob", None),
    ],
)
def test_a_script_without_a_suffix_that_an_interpreter_is_told_to_run_on_a_volume(
    containerd: Containerd, uses_container: Container, core_source: EventSource, tmp_path: Path,
    command: str, told: bytes | None,
) -> None:  # fmt: skip
    """It opens it as any file, and much on a volume is data without a suffix. Repeated at each
    execution by what runs meanwhile, whatever was told of the same files before."""
    root = Path(f"/proc/{containerd.pid(uses_container)}/root")
    for name in ("tool", "blob"):
        (tmp_path / name).write_text("sleep 60\n")
    for folder in (tmp_path, root / "opt"):
        (folder / "waits").write_text("exec sleep 60\n")
    shutil.copy(root / "usr/bin/perl", tmp_path)
    app = containerd.run(NAME, "app", mounts=[Mount(tmp_path, "/data")])
    observer = Observer(containerd, app, core_source)
    for _ in range(2):  # the second time nothing is new to the kernel
        containerd.exec(app, ["/bin/cat", "/data/tool", "/data/waits", "/data/blob"])
    containerd.exec(app, ["/bin/sh", "-c", f"({command}) >/dev/null 2>&1 & sleep 0.2; echo"])
    seen = [(event.path, event.use) for event in observer.events() if event.use & Use.EXECUTED]
    containerd.stop(app)
    named = {path for path, _ in seen if path in (b"/data/tool", b"/data/waits", b"/data/blob")}
    assert named == ({told} if told else set())
    assert told is None or (told, Use.EXECUTED | Use.REWRITTEN) in seen


def _in_a_root_of_its_own(observer: Observer, folder: Path, command: str) -> dict[bytes, Use]:
    """Runs a shell command as the container's, in a mount namespace with the host's files.

    ``$D`` is the folder, ``$D/uses`` the program that uses files.
    """
    program = Path(f"/proc/{observer.pid}/root/opt/uses").read_bytes()
    (folder / "uses").write_bytes(program)
    (folder / "uses").chmod(0o755)
    entering = f"echo $$ > {cgroup_of(observer.pid)}/cgroup.procs\nD={folder}\n{command}"
    subprocess.run(["unshare", "-m", "sh", "-ec", entering], check=True)
    return observer.drained()


def test_a_file_renamed_in_an_earlier_life_is_credited_or_counted_as_lost(
    observer: Observer, tmp_path: Path
) -> None:
    if shutil.which("mkfs.ext4") is None or not Path("/dev/loop-control").exists():
        pytest.skip("no file system can be made here that forgets: mkfs.ext4 and loop devices")
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", disk], check=True)
    mounting = (
        "mount -o loop $D/disk $D/fs; mkdir -p $D/fs/l $D/fs/u $D/fs/w; "
        "mount -t overlay o -o lowerdir=$D/fs/l,upperdir=$D/fs/u,workdir=$D/fs/w $D/m"
    )
    seen = _in_a_root_of_its_own(
        observer,
        tmp_path,
        f"mkdir $D/fs $D/m; mount -o loop $D/disk $D/fs; mkdir $D/fs/l; echo x > $D/fs/l/file;"
        f" umount $D/fs; {mounting}; mv $D/m/file $D/m/moved; umount $D/m; umount $D/fs;"
        f" {mounting}; $D/uses pivot $D/m open /moved",
    )
    assert seen[b"/moved"] == MADE
    assert b"/file" in seen or observer.lost() == {"image_name": 1}


def test_a_file_in_a_renamed_directory_of_the_image_is_credited_by_both_names(
    observer: Observer, tmp_path: Path
) -> None:
    seen = _in_a_root_of_its_own(
        observer,
        tmp_path,
        "mkdir $D/t; mount -t tmpfs t $D/t; cd $D/t; mkdir -p l/folder u w m; echo x > l/folder/f;"
        " mount -t overlay o -o lowerdir=l,upperdir=u,workdir=w,redirect_dir=on m;"
        " mv m/folder m/other; exec $D/uses pivot $D/t/m open /other/f",
    )
    assert seen == {b"/other/f": Use.OPENED, b"/folder/f": Use.OPENED}
    assert not observer.lost()


@pytest.mark.parametrize("act", ["renamed", "new_link"])
def test_a_new_name_where_there_is_no_overlay_is_counted_as_lost(
    observer: Observer, tmp_path: Path, act: str
) -> None:
    (tmp_path / "file").write_text("x")
    command = f"exec $D/uses pivot $D {act} /file"
    seen = _in_a_root_of_its_own(observer, tmp_path, command)
    assert set(seen) == {b"/file.new"}
    assert observer.lost() == {"renamed": 1}


def test_depth_100(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "deep", "level", "100")
    assert set(seen) == {b"/opt" + b"/level" * 100 + b"/leaf"}


def test_the_longest_path_there_is(observer: Observer) -> None:
    folders = "/opt" + ("/" + "x" * 200) * 20
    leaf = "y" * (MAX_PATH - len(folders) - 1)
    seen = observer.uses("/opt/uses", "deep", "x" * 200, "20", leaf)
    assert set(seen) == {f"{folders}/{leaf}".encode()}
    assert not observer.lost()
    observer.uses("/bin/rm", "-rf", "/opt/" + "x" * 200)


def test_another_file_system_over_an_image_path_is_told_apart(observer: Observer) -> None:
    seen = observer.uses_with_all_capabilities(
        "unshare -m sh -c 'mount -t tmpfs t /mnt && echo x >/mnt/f && cat /mnt/f'"
    )
    assert b"/usr/bin/cat" in seen or observer.drained() == {}
    assert b"/mnt/f" not in seen


def test_one_image_file_mounted_over_another_is_reported_by_its_own_name(
    observer: Observer,
) -> None:
    seen = observer.uses_with_all_capabilities(
        "unshare -m sh -c 'mount --bind /opt/data/nested /etc/hostname && exec cat /etc/hostname'"
    )
    assert seen[b"/opt/data/nested"] == Use.OPENED
    assert b"/etc/hostname" not in seen
