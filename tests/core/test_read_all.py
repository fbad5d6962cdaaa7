"""Reading a context by position: every range, filter and direction, from the store and from memory alike."""

import pytest
from ranges_by_hand import append_parts, read_all

from rewind_cluster.client_messages import Code, Failed
from rewind_cluster.ranges import AllIs, GetPosition, PositionIs, ReadAll, unpack_rows

TAG = "{all}"


@pytest.fixture
def partition(cluster):
    return cluster.partition_of(TAG)


@pytest.fixture
def client(cluster, partition):
    client = cluster.client()
    client.session(partition)
    return client


def fill(client, partition, runs=12):
    """Append runs of two parts each, of two streams and three types, and return what a reader must find."""
    expected = []
    versions = {}
    for number in range(runs):
        parts = []
        for name in "ab" if number % 2 else "ba":
            kinds = ["X", "Y", "Z"][: number % 3 + 1]
            parts.append((name, [(kind, f"{number}{name}{kind}") for kind in kinds]))
        append_parts(client, partition, [(TAG + name, events) for name, events in parts])
        for name, events in parts:
            for kind, data in events:
                versions[name] = versions.get(name, 0) + 1
                expected.append((len(expected) + 1, TAG + name, versions[name], kind, data))
    return expected


def plain(seen):
    return [(event.position, event.stream, event.version, event.type, event.data) for event in seen]


def test_every_part_of_a_context_is_read_forwards_and_backwards(cluster, client, partition):
    expected = fill(client, partition, 6)
    cluster.turns(12_000)  # a checkpoint: the store holds these, memory the next
    client.hello(cluster.leader(partition))
    index = cluster.leader(partition).core.replicas[partition].index
    stored = index.checkpointed
    expected += [
        (place + len(expected), stream, version + 12, kind, data)
        for place, stream, version, kind, data in fill(client, partition, 6)
    ]
    leader = cluster.await_leader(partition)

    assert stored > 0
    assert index.checkpointed < leader.core.replicas[partition].applied
    for after in range(len(expected) + 1):
        for size in (1, 300, 1 << 20):
            forward = read_all(client, leader, partition, after=after, size=size)
            backward = read_all(client, leader, partition, after=after, size=size, reverse=True)

            assert plain(forward) == expected[after:]
            assert plain(backward) == expected[:after][::-1]


def test_filters_take_what_they_name_and_nothing_else(cluster, client, partition):
    expected = fill(client, partition)
    leader = cluster.await_leader(partition)

    for types in (None, ["X"], ["Y", "Z"], ["X", "Y", "Z"], ["nothing"], []):
        for prefix in ("", TAG, TAG + "a", TAG + "b", "other"):
            for after in (None, 0, 3, 17):
                wanted = [
                    event
                    for event in expected
                    if (types is None or event[3] in types) and event[1].startswith(prefix) and event[0] > (after or 0)
                ]
                seen = read_all(client, leader, partition, after=after, types=types, prefix=prefix, size=200)
                back = read_all(client, leader, partition, types=types, prefix=prefix, size=200, reverse=True)

                assert plain(seen) == wanted
                assert [event for event in plain(back) if event[0] > (after or 0)] == wanted[::-1]


def test_timestamps_rise_with_each_event_in_whole_runs_and_in_cut_ones(cluster, client, partition):
    fill(client, partition)
    leader = cluster.await_leader(partition)

    whole = read_all(client, leader, partition)
    cut = read_all(client, leader, partition, types=["Y"])

    stamps = {event.position: event.timestamp for event in whole}
    assert sorted(set(stamps.values())) == list(stamps.values())
    assert {event.position: event.timestamp for event in cut}.items() <= stamps.items()


def test_an_unfiltered_run_is_sent_as_it_is_stored(cluster, client, partition):
    fill(client, partition, 3)
    leader = cluster.await_leader(partition)

    fields = (partition, 1, 0, 4096, 1 << 20, None, "", False, True, 0, client.deadline_us)
    _, frames = client.ask(leader, ReadAll, *fields)

    entries = [data for _, data in leader.engine.scan(f"log:{partition}", b"", b"\xff" * 9)]
    stored = [entry for entry in entries if b"0b" in entry or b"1a" in entry or b"2b" in entry]
    assert len(stored) == 3
    for row, entry in zip(unpack_rows(frames[0], 1, 99), stored, strict=True):
        assert row.offsets is None
        assert row.events in entry


def test_an_empty_context_has_nothing_to_read_and_position_0(cluster, client, partition):
    leader = cluster.await_leader(partition)

    answer, frames = client.ask(
        leader, ReadAll, partition, 1, None, 10, 1000, None, "", True, True, 0, client.deadline_us
    )
    position, _ = client.ask(leader, GetPosition, partition, 1, True, 0, client.deadline_us)

    assert answer == AllIs(answer.request, 0, 0, 0, False)
    assert frames == [b"\x90"]
    assert position == PositionIs(position.request, 0)


def test_a_reader_beyond_the_newest_event_is_told_so_by_the_leader_and_waits_elsewhere(cluster, client, partition):
    expected = fill(client, partition, 2)
    leader = cluster.await_leader(partition)
    follower = next(host for host in cluster.hosts if host is not leader)
    client.hello(follower)

    beyond = len(expected) + 1
    fields = (partition, 1, beyond, 10, 1000, None, "", False)
    refused, _ = client.ask(leader, ReadAll, *fields, True, 0, client.deadline_us)
    client.send(follower, ReadAll(900, *fields, False, 0, client.deadline_us))
    cluster.turns(30)
    waits = not any(getattr(message, "request", 0) == 900 for _, message, _ in client.received)
    fill(client, partition, 1)
    answer, _ = client.await_message(lambda message: getattr(message, "request", 0) == 900)

    assert isinstance(refused, Failed)
    assert refused.code == Code.BEYOND_HEAD
    assert waits
    assert (answer.after, answer.through) == (beyond, beyond + 1)


def test_positions_are_told_fresh_by_the_leader_and_by_any_replica_that_has_come_far_enough(cluster, client, partition):
    expected = fill(client, partition, 4)
    leader = cluster.await_leader(partition)
    follower = next(host for host in cluster.hosts if host is not leader)
    client.hello(follower)

    fresh, _ = client.ask(leader, GetPosition, partition, 1, True, 0, client.deadline_us)
    refused, _ = client.ask(follower, GetPosition, partition, 1, True, 0, client.deadline_us)
    caught_up, _ = client.ask(follower, GetPosition, partition, 1, False, len(expected), client.deadline_us)

    assert fresh.position == caught_up.position == len(expected)
    assert refused.code == Code.NOT_LEADER


@pytest.mark.parametrize(
    ("types", "prefix", "code"),
    [
        ([7], "", Code.INVALID),
        ([""], "", Code.INVALID),
        (["T\n"], "", Code.INVALID),
        (["T" * 256], "", Code.TOO_LARGE),
        (["T"] * 257, "", Code.TOO_LARGE),
        (None, "a\0b", Code.INVALID),
        (None, "a" * 256, Code.TOO_LARGE),
    ],
)
def test_filters_outside_the_rules_are_refused(cluster, client, partition, types, prefix, code):
    leader = cluster.await_leader(partition)

    answer, _ = client.ask(
        leader, ReadAll, partition, 1, None, 10, 1000, types, prefix, False, True, 0, client.deadline_us
    )

    assert isinstance(answer, Failed)
    assert answer.code == code


def test_a_read_that_filters_everything_out_comes_back_with_progress_and_no_rows(cluster, client, partition):
    expected = fill(client, partition, 200)
    leader = cluster.await_leader(partition)

    fields = (partition, 1, 0, 4096, 1 << 20, ["nothing"], "", False, True, 0, client.deadline_us)
    answer, frames = client.ask(leader, ReadAll, *fields)

    assert answer.more
    assert 0 < answer.through < len(expected)
    assert frames == [b"\x90"]


def test_partitions_are_never_taken_for_one_another(cluster, client, partition):
    other = 3 - partition
    stream = next(f"s{n}" for n in range(100) if cluster.partition_of(f"s{n}") == other)
    for number in range(5):
        append_parts(client, partition, [(TAG, [("T", f"here {number}")])])
        append_parts(client, other, [(stream, [("T", f"there {number}")])])
    host = cluster.hosts[0]
    client.hello(host)

    here = read_all(client, host, partition, fresh=False)
    there = read_all(client, host, other, fresh=False)

    assert [event.data for event in here] == [f"here {number}" for number in range(5)]
    assert [event.data for event in there] == [f"there {number}" for number in range(5)]


def test_damage_that_a_reader_meets_is_never_served(cluster, client, partition):
    fill(client, partition, 3)
    leader = cluster.await_leader(partition)
    victim = next(host for host in cluster.hosts if host is not leader)
    client.hello(victim)
    cluster.until(lambda: victim.core.replicas[partition].applied == leader.core.replicas[partition].applied)
    entries = list(victim.engine.scan(f"log:{partition}", b"", b"\xff" * 9))
    key, data = next((key, data) for key, data in entries if b"1aX" in data)
    damaged = bytearray(data)
    damaged[data.index(b"1aX")] ^= 1
    victim.engine.put(f"log:{partition}", [(key, bytes(damaged))])

    fields = (partition, 1, 0, 4096, 1 << 20, None, "", False, False, 0, client.deadline_us)
    answer, _ = client.ask(victim, ReadAll, *fields)

    assert isinstance(answer, Failed)
    assert partition in victim.core.infirmary.repairs


def test_a_row_of_positions_that_is_gone_is_damage_and_no_hole_in_what_is_read(cluster, client, partition):
    expected = fill(client, partition, 6)
    cluster.turns(12_000)
    leader = cluster.await_leader(partition)
    victim = next(host for host in cluster.hosts if host is not leader)
    client.hello(victim)
    keys = [key for key, _ in victim.engine.scan("positions", b"", b"\xff" * 300)]
    victim.engine.delete("positions", [keys[2]])

    fields = (partition, 1, 0, 4096, 1 << 20, None, "", False, False, 0, client.deadline_us)
    answer, _ = client.ask(victim, ReadAll, *fields)
    cluster.until(
        lambda: partition in victim.core.replicas and victim.core.replicas[partition].index.position(1) == len(expected)
    )
    client.hello(victim)

    assert len(keys) == 6
    assert isinstance(answer, Failed)
    assert plain(read_all(client, victim, partition, fresh=False)) == expected


def test_reads_that_find_nothing_are_spread_over_turns(cluster, client, partition):
    fill(client, partition, 100)
    leader = cluster.await_leader(partition)
    fields = (partition, 1, 0, 4096, 1 << 20, ["nothing"], "", False, False, 0, client.deadline_us)

    for number in range(20):
        client.send(leader, ReadAll(500 + number, *fields))
    cluster.turns(3)
    soon = sum(isinstance(message, AllIs) for _, message, _ in client.received)
    cluster.turns(30)
    late = sum(isinstance(message, AllIs) for _, message, _ in client.received)

    assert 1 <= soon <= 6
    assert late == 20
