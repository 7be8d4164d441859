"""Batches: contiguous intervals, nothing lost or doubled by splitting, loss always told."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from schemas.batches import decode_batch, encode_batch
from vexstream.batching import Limits, Observation, Room, is_part
from vexstream.evidence import Batch, Evidence, Use
from vexstream.identity import Digest, Image, Workload

IMAGE = Image(Digest("sha256:" + "a" * 64))
OTHER = Digest("sha256:" + "b" * 64)
START = 1_000

paths = st.binary(min_size=1, max_size=12).map(lambda name: b"/" + name.replace(b"\0", b"\n"))
uses = st.sampled_from([Use.OPENED, Use.EXECUTED, Use.MAPPED | Use.OPENED])
accesses = st.lists(st.tuples(paths, uses), max_size=12)
turns = st.lists(
    st.tuples(accesses, st.integers(0, 3), st.integers(-500, 2_000)), min_size=1, max_size=8
)
"""Per cut: what was used, how many events were lost, and by how much the clock moved."""


def _observation(limits: Limits | None = None, observed_from_us: int = START) -> Observation:
    return Observation(
        node="node-1",
        run="run-1",
        container_id="c1",
        workload=Workload("shop", "cart", "app"),
        image=IMAGE,
        started_at_us=START,
        observed_from_us=observed_from_us,
        limits=limits or Limits(),
    )


def _merged(batches: list[Batch]) -> Evidence:
    evidence = Evidence(IMAGE)
    for batch in batches:
        evidence.merge(decode_batch(encode_batch(batch)))
    return evidence


@given(turns, st.integers(1, 4), st.integers(12, 60))
def test_any_run_gives_contiguous_intervals_that_hold_every_access_once(
    run: list[tuple[list[tuple[bytes, Use]], int, int]], most: int, size: int
) -> None:
    observation = _observation(Limits(batch_accesses=most, batch_bytes=size))
    now, batches = START, []
    for used, lost, elapsed in run:
        wanted: dict[bytes, Use] = {}
        for path, use in used:
            observation.add(path, use)
            wanted[path] = wanted.get(path, Use(0)) | use
        observation.lose("ring_buffer", lost)
        now += elapsed
        cut = observation.cut(now)
        got = [(a.path, a.use) for batch in cut for a in batch.accesses]
        assert sorted(got) == sorted(wanted.items())
        assert all(len(batch.accesses) <= most for batch in cut)
        sizes = [[len(a.path) + 8 for a in batch.accesses] for batch in cut]
        assert all(len(each) < 2 or sum(each) <= size for each in sizes)
        assert all(is_part(b) and b.lost == 0 for b in cut[:-1])
        assert cut[-1].lost == lost
        assert not (lost and is_part(cut[-1])), "a loss in an empty interval would break no chain"
        batches += cut
    assert batches[0].observed_from_us == START
    assert [batch.sequence for batch in batches] == list(range(len(batches)))
    for one, following in pairwise(batches):
        assert one.observed_to_us == following.observed_from_us


@given(turns)
def test_a_container_counts_as_whole_only_up_to_the_first_loss(
    run: list[tuple[list[tuple[bytes, Use]], int, int]],
) -> None:
    observation = _observation()
    now, batches, whole_until = START, [], START
    lossless = True
    for used, lost, elapsed in run:
        for path, use in used:
            observation.add(path, use)
        observation.lose("ring_buffer", lost)
        now += elapsed
        batches += observation.cut(now)
        lossless = lossless and not lost
        whole_until = batches[-1].observed_to_us if lossless else whole_until
    known = _merged(batches).containers["node-1/c1"].seen_whole_until()
    assert known == (whole_until if whole_until > START else None)


def test_silence_is_stated() -> None:
    (batch,) = _observation().cut(START + 5)
    assert (batch.observed_from_us, batch.observed_to_us, batch.accesses) == (START, START + 5, ())


def test_a_container_seen_late_is_never_whole() -> None:
    observation = _observation(observed_from_us=START + 100)
    observation.add(b"/bin/app", Use.EXECUTED | Use.SEEDED)
    batches = observation.cut(START + 200) + observation.cut(START + 300)
    assert _merged(batches).containers["node-1/c1"].seen_whole_until() is None


def test_what_exceeds_the_waiting_room_is_lost_and_said_to_be() -> None:
    observation = _observation(Limits(pending_accesses=2))
    for name in (b"/a", b"/b", b"/c", b"/d"):
        observation.add(name, Use.OPENED)
    observation.add(b"/a", Use.MAPPED)  # known already: needs no room
    (batch,) = observation.cut(START + 1)
    assert [access.path for access in batch.accesses] == [b"/a", b"/b"]
    assert batch.accesses[0].use == Use.OPENED | Use.MAPPED
    assert (batch.lost, batch.loss_reasons) == (2, ("publish",))


def test_loss_belongs_to_one_interval_only() -> None:
    observation = _observation()
    observation.lose("path_walk", 1)
    observation.lose("ring_buffer", 2)
    (lossy,), (clean,) = observation.cut(START + 1), observation.cut(START + 2)
    assert (lossy.lost, lossy.loss_reasons) == (3, ("path_walk", "ring_buffer"))
    assert (clean.lost, clean.loss_reasons) == (0, ())


def test_digests_that_become_known_later_are_added() -> None:
    observation = _observation()
    observation.cut(START + 1)
    observation.learn(Image(IMAGE.config_digest, (OTHER,), ("shop/cart:1",)))
    (batch,) = observation.cut(START + 2)
    assert batch.image == Image(IMAGE.config_digest, (OTHER,), ("shop/cart:1",))


def test_news_is_told_apart_from_silence() -> None:
    observation = _observation()
    assert not observation.has_news
    observation.add(b"/a", Use.OPENED)
    assert observation.has_news
    observation.cut(START + 1)
    assert not observation.has_news
    observation.lose("hold_overflow", 1)
    assert observation.has_news


def test_the_last_batch_of_a_cut_tells_how_many_parts_came_before_and_how_it_ended() -> None:
    observation = _observation(Limits(batch_accesses=2))
    for number in range(5):
        observation.add(b"/f%d" % number, Use.OPENED)
    batches = observation.cut(START + 10, exit_code=3)
    assert [batch.parts for batch in batches] == [0, 0, 2]
    assert [batch.exit_code for batch in batches] == [None, None, 3]
    (container,) = _merged(batches).containers.values()
    assert container.seen_whole_until() == START + 10
    for part in range(2):
        (container,) = _merged(batches[:part] + batches[part + 1 :]).containers.values()
        assert container.seen_whole_until() is None, "a part is missing"
    assert [batch.parts for batch in observation.cut(START + 20)] == [0]
    assert observation.room == Room(), "nothing waits any more"


def test_where_nothing_ran_yet_the_life_begins_later_and_never_earlier() -> None:
    for at, begins in ((START + 5, START + 5), (START - 5, START)):
        observation = _observation()
        observation.begin(at)
        (batch,) = observation.cut(START + 10)
        assert (batch.started_at_us, batch.observed_from_us) == (begins, begins)
        (container,) = _merged([batch]).containers.values()
        assert container.seen_whole_until() == START + 10
