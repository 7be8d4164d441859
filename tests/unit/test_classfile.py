"""What is told of a class by its content."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.classfiles import class_file
from vexstream.classfile import NONE, Traits, traits

MEMBERS = ["readAll", "skipBlanks", "parse", "unread"]
SAID = ["There is no such block in the file", "short"]


def told(name: str, members: list[str] = MEMBERS, said: list[str] = SAID) -> Traits:
    return traits(name.rpartition("/")[2].encode(), memoryview(class_file(name, members, said)))


def test_relocation_changes_neither_shape_nor_sentences() -> None:
    here = told("org/acme/Reader", said=[*SAID, "org.acme.Other", "org/acme/x"])
    there = told("x/shaded/Reader", said=[*SAID, "x.shaded.Other", "x/shaded/x"])
    assert here.shape is not None
    assert here == there


def test_renaming_leaves_the_sentences() -> None:
    renamed = told("a/b", ["a", "b", "c", "d"])
    assert renamed.sentences == told("org/acme/Reader").sentences
    assert len(renamed.sentences) == 1
    assert renamed.shape != told("org/acme/Reader").shape


@pytest.mark.parametrize(
    "members",
    [MEMBERS[:2], ["getA", "setA", "isB", "getC", "toString", "hashCode", "equals", "<init>"]],
)
def test_a_class_with_little_of_its_own_has_no_shape(members: list[str]) -> None:
    assert told("org/acme/Reader", members, []).shape is None


def test_what_compilers_write_is_nobodys() -> None:
    said = [
        "null cannot be cast to non-null type kotlin.Any",
        "name is marked non-null but is null",
    ]
    assert told("org/acme/Reader", said=said).sentences == frozenset()


@given(st.integers(0, 400))
def test_a_damaged_class_tells_nothing_or_less(end: int) -> None:
    whole = class_file("org/acme/Reader", MEMBERS, SAID, attribute=b"x" * 30)
    found, complete = (traits(b"Reader", memoryview(part)) for part in (whole[:end], whole))
    assert found in (NONE, complete)


def test_other_files_tell_nothing() -> None:
    assert traits(b"Reader", memoryview(b"")) == NONE
    assert traits(b"Reader", memoryview(b"text of any kind")) == NONE
    assert traits(b"Reader", memoryview(b"\xca\xfe\xba\xbe\0\0\0\0\0\5\x63")) == NONE
