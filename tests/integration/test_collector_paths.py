"""The rows of the table of paths in docs/collector.md: by which name a file is reported."""

import pytest

from tests.support.probe import TIMES, Observer
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
    for n in range(TIMES):
        assert seen[f"{prefix}{n}.new".encode()] == Use.EXECUTED | Use.REWRITTEN
        assert seen[f"{prefix}{n}".encode()] == Use.EXECUTED


def test_a_new_hard_link_is_credited_to_the_name_in_the_image(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "new_link", "/opt/data/new_link")
    assert seen == {b"/opt/data/new_link.new": MADE, b"/opt/data/new_link": Use.OPENED}


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
