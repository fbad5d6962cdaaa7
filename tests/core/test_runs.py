"""Runs of appends: whatever is out of the ordinary in one, each append ends as it would have alone."""

import pytest
from runs_by_hand import answers, run_of, send

from rewind_cluster.batches import BATCH_BYTES_MAX, AppendRun, pack_runs
from rewind_cluster.client_messages import SESSION_WINDOW, AppendsDone, Code, Refused
from rewind_cluster.columns import Events, pack_events, unpack_events
from rewind_cluster.names import APPEND_BYTES_MAX, APPEND_EVENTS_MAX, MESSAGE_BYTES_MAX
from rewind_node.reading import StoredRun

STREAM = "{run}"


def one(expected, name, stream=STREAM):
    return [(stream, expected, [name])]


@pytest.fixture
def partition(cluster):
    return cluster.partition_of(STREAM)


@pytest.fixture
def client(cluster, partition):
    client = cluster.client()
    client.session(partition)
    return client


def test_a_run_may_go_on_from_its_own_appends(cluster, client, partition):
    run = run_of(1, [one(0, "a"), [(STREAM, 1, ["b", "c"])], one(3, "d"), one(-1, "e")])

    send(client, cluster.leader(partition), partition, [run])

    assert answers(client, 4) == {1: [[1, 1]], 2: [[3, 3]], 3: [[4, 4]], 4: [[5, 5]]}
    assert client.read(STREAM) == ["a", "b", "c", "d", "e"]


def test_one_that_is_refused_in_a_run_costs_the_others_nothing(cluster, client, partition):
    run = run_of(1, [one(0, "a"), one(7, "b"), one(1, "c")])

    send(client, cluster.leader(partition), partition, [run])

    assert answers(client, 3) == {1: [[1, 1]], 2: Code.WRONG_VERSION, 3: [[2, 2]]}
    assert client.read(STREAM) == ["a", "c"]


def test_one_that_is_outside_the_rules_costs_the_others_nothing(cluster, client, partition):
    run = run_of(1, [one(0, "a"), one(0, "b", "{run}\n"), one(1, "c")])

    send(client, cluster.leader(partition), partition, [run])

    assert answers(client, 3) == {1: [[1, 1]], 2: Code.INVALID, 3: [[2, 2]]}


def test_events_that_cannot_be_told_apart_cost_all_of_their_run(cluster, client, partition):
    leader = cluster.leader(partition)
    broken = run_of(1, [one(0, "a"), one(1, "b")])._replace(events=b"\x93")

    send(client, leader, partition, [broken, run_of(3, [one(0, "c")])])

    assert answers(client, 3) == {1: Code.INVALID, 2: Code.INVALID, 3: [[1, 1]]}


def test_appends_of_several_parts_are_whole_in_a_run(cluster, client, partition):
    both = [("{run}-a", 0, ["a", "b"]), ("{run}-b", 0, ["c"])]
    wrong = [("{run}-a", 2, ["d"]), ("{run}-b", 9, ["e"])]
    run = run_of(1, [both, one(-1, "f", "{run}-b"), wrong])

    send(client, cluster.leader(partition), partition, [run])

    assert answers(client, 3) == {1: [[2, 2], [1, 3]], 2: [[2, 4]], 3: Code.WRONG_VERSION}
    assert client.read("{run}-a") == ["a", "b"]
    assert client.read("{run}-b") == ["c", "f"]


def test_any_part_of_a_run_that_is_sent_again_has_the_first_answers(cluster, client, partition):
    several = [("{run}-a", 0, ["x", "y"]), ("{run}-b", 0, ["z"])]
    appends = [one(0, "a"), several, one(1, "b"), one(2, "c")]
    send(client, cluster.leader(partition), partition, [run_of(1, appends)])
    first = answers(client, 4)

    for host in cluster.hosts:
        host.crash()
        host.start()
    leader = cluster.await_leader(partition)
    send(client, leader, partition, [run_of(2, appends[1:3], b"\1\1")], epoch=2)
    again = answers(client, 2)
    fresh = [*appends[3:], one(3, "d")]
    send(client, leader, partition, [run_of(4, fresh, b"\1\0")], epoch=2)

    assert again == {number: first[number] for number in (2, 3)}
    assert answers(client, 2) == {4: first[4], 5: [[4, 7]]}
    assert client.read(STREAM) == ["a", "b", "c", "d"]


def test_a_copy_of_a_run_that_is_not_committed_waits_for_it(cluster, client, partition):
    leader = cluster.leader(partition)
    others = [host for host in cluster.hosts if host is not leader]
    for other in others:
        cluster.cut(leader, other)
    appends = [one(0, "a"), one(1, "b"), one(2, "c")]
    send(client, leader, partition, [run_of(1, appends)])
    send(client, leader, partition, [run_of(2, appends[1:], b"\1\1")])
    cluster.turns(10)
    assert not [message for _, message, _ in client.received if isinstance(message, AppendsDone)]

    cluster.heal()

    assert answers(client, 3) == {1: [[1, 1]], 2: [[2, 2]], 3: [[3, 3]]}
    assert client.read(STREAM) == ["a", "b", "c"]


def test_what_lies_beyond_the_window_is_refused_with_all_that_follows(cluster, client, partition):
    appends = [one(-1, f"e{number}") for number in range(SESSION_WINDOW + 2)]

    send(client, cluster.leader(partition), partition, [run_of(1, appends)])

    told = answers(client, SESSION_WINDOW + 2)
    assert told[SESSION_WINDOW] == [[SESSION_WINDOW, SESSION_WINDOW]]
    assert told[SESSION_WINDOW + 1] == Code.OVERLOADED
    assert told[SESSION_WINDOW + 2] == Code.EPOCH


def test_a_follower_that_takes_over_knows_what_a_run_has_led_to(cluster, client, partition):
    leader = cluster.leader(partition)
    send(client, leader, partition, [run_of(1, [one(0, "a"), one(1, "b")])])
    first = answers(client, 2)

    leader.crash()
    successor = cluster.until(lambda: (host := cluster.leader(partition)) and host is not leader and host)
    send(client, successor, partition, [run_of(1, [one(0, "a"), one(1, "b"), one(2, "c")], b"\1\1\0")], epoch=2)

    assert answers(client, 3) == {**first, 3: [[3, 3]]}


def test_a_neighbour_with_metadata_does_not_make_an_append_too_large(cluster, client, partition):
    names = [f"{number:04}" for number in range(APPEND_EVENTS_MAX)]
    room = APPEND_BYTES_MAX - len(run_of(1, [[(STREAM, -1, names)]]).events)
    padding = b"." * (room // APPEND_EVENTS_MAX - 3)
    events = unpack_events(run_of(1, [[(STREAM, -1, names)], one(-1, "m")]).events)
    datas = [data + padding for data in events.datas[:-1]] + [b""]
    packed = pack_events(events._replace(datas=datas, metadatas=[None] * APPEND_EVENTS_MAX + [b"\x80"]))
    both = run_of(1, [[(STREAM, -1, names)], one(-1, "m")])._replace(events=packed)

    send(client, cluster.leader(partition), partition, [both])

    assert answers(client, 2) == {1: [[4096, 4096]], 2: [[4097, 4097]]}


def test_an_entry_of_the_largest_runs_fits_into_a_frame_between_nodes(cluster, client, partition):
    leader = cluster.leader(partition)
    small = run_of(1, [one(-1, "x")])
    small = small._replace(events=pack_events(unpack_events(small.events)._replace(datas=[bytes(1_000_000)])))
    parts, appends = 45, 1000
    streams = [("{run}" + f"{place}-{append}").ljust(250, "n") for append in range(appends) for place in range(parts)]
    count = len(streams)
    events = pack_events(Events(bytes(16 * count), ["T"] * count, [b""] * count, None))
    large = AppendRun(2, b"", streams, [-1] * count, None, [parts] * appends, events)
    assert sum(map(len, pack_runs([large]))) > BATCH_BYTES_MAX * 0.9

    send(client, leader, partition, [small])
    send(client, leader, partition, [large])
    answers(client, appends + 1)

    log = leader.core.replicas[partition].raft.log
    assert max(len(log.entry(index).data) for index in range(1, log.last_index + 1)) < MESSAGE_BYTES_MAX * 0.9


def test_a_run_that_is_appended_again_elsewhere_is_opened_once(cluster, client, partition, monkeypatch):
    leader = cluster.leader(partition)
    appends = [one(0, f"e{number}", f"{STREAM}-{number}") for number in range(500)]
    send(client, leader, partition, [run_of(1, appends)])
    first = answers(client, 500)
    other = cluster.client("other")
    opened = []
    monkeypatch.setattr(StoredRun, "__init__", lambda *a, init=StoredRun.__init__: (opened.append(a), init(*a))[1])

    send(other, leader, partition, [run_of(1, appends)])

    assert answers(other, 500) == first
    assert len(opened) == 1


def test_a_chunk_opens_no_more_bytes_than_it_may_hold(cluster, client, partition):
    leader = cluster.leader(partition)
    for number in range(20):
        others = [one(0, f"o{number}-{other}", f"{STREAM}-{number}-{other}") for other in range(100)]
        send(
            client,
            leader,
            partition,
            [run_of(number * 101 + 1, [one(-1, f"e{number}"), *others])],
            low=number * 101 + 1,
        )
        answers(client, 101)
    reader = leader.core.replicas[partition].reader

    chunk = reader.chunk(1, STREAM, 0, 1000, 20_000, reverse=False)

    assert chunk.more
    assert 1 <= len(chunk.appends) < 10
    assert client.read(STREAM) == [f"e{number}" for number in range(20)]


def test_numbers_that_do_not_rise_end_the_connection_s_state(cluster, client, partition):
    same = run_of(1, [one(-1, "a")])

    send(client, cluster.leader(partition), partition, [same, same])

    message, _ = client.await_message(lambda message: isinstance(message, Refused))
    assert message.code == "malformed"
