"""The session's connections and requests: finding a way in, keeping it, and asking elsewhere."""

from collections.abc import Callable
from typing import Any

import pytest

from rewind import inquiries
from rewind.errors import (
    AccessDenied,
    ContextNotFound,
    DeadlineExceeded,
    InvalidArgument,
    OutcomeUnknown,
    ProtocolError,
    Unavailable,
)
from rewind_cluster.client_messages import (
    CLIENT_CODEC,
    Code,
    CreateContext,
    Failed,
    GetMap,
    GetVersion,
    Hello,
    Ping,
    ReadStream,
    Refused,
    StreamIs,
    pack_chunk,
)

TEN_S = 10_000_000


def version_of(lab: Any, stream: str = "s", consistency: str = "linearizable", timeout: float | None = None) -> Any:
    return lab.calls.version(stream, consistency, None, timeout)


def test_one_seed_leads_to_all_nodes(make_lab: Callable[..., Any]) -> None:
    lab = make_lab(seeds=1).connect()

    assert set(lab.routes) == {"host-1:7070", "host-2:7070", "host-3:7070"}


def test_a_hello_comes_before_anything_else(make_lab: Callable[..., Any]) -> None:
    lab = make_lab()
    first = []
    for node in lab.cluster.nodes:
        node.answer = lambda message, _, node=node: first.append((node.name, message)) if not node.hears[1:] else None

    lab.connect()

    assert all(isinstance(message, Hello) for _, message in first)


def test_a_seed_that_is_down_does_not_matter_where_another_is_up(make_lab: Callable[..., Any]) -> None:
    lab = make_lab(seeds=2)
    lab.cluster.nodes[0].up = False

    lab.connect()

    assert set(lab.routes) == {"host-2:7070", "host-3:7070"}


def test_seeds_that_cannot_be_reached_are_named(make_lab: Callable[..., Any]) -> None:
    lab = make_lab(seeds=2)
    for node in lab.cluster.nodes:
        node.up = False

    request = lab.ask(inquiries.get_map(TEN_S))

    assert type(request.error) is Unavailable
    assert "host-1:7070" in str(request.error)
    assert "host-2:7070" in str(request.error)
    assert "10 s" in str(request.error)


def test_a_node_of_another_cluster_is_left_alone(make_lab: Callable[..., Any], fake_cluster: Any) -> None:
    lab = make_lab(seeds=1).connect()
    stranger = lab.cluster.nodes[2]
    stranger.cluster = fake_cluster.FakeCluster([node.address for node in lab.cluster.nodes], cluster_id="other")

    lab.drop(stranger)
    lab.settle()
    stranger.hears.clear()
    lab.advance(500_000)

    assert "other" in lab.session._connections.troubles()
    assert not [message for message in stranger.hears if not isinstance(message, Hello)]


@pytest.mark.parametrize(("code", "error"), [("access", AccessDenied), ("version", ProtocolError)])
def test_where_every_node_refuses_for_good_connecting_fails_at_once(
    make_lab: Callable[..., Any], code: str, error: type[Exception]
) -> None:
    lab = make_lab(seeds=3)
    for node in lab.cluster.nodes:
        node.answer = lambda _, __: [Refused(code, "we do not want you")]
    began_us = lab.now_us

    request = lab.ask(inquiries.get_map(TEN_S))

    assert type(request.error) is error
    assert "we do not want you" in str(request.error)
    assert lab.now_us - began_us < 100_000


def test_a_cluster_that_is_being_founded_is_waited_for(make_lab: Callable[..., Any]) -> None:
    lab = make_lab()
    node = lab.cluster.nodes[0]
    node.answer = lambda _, __: [Refused("founding", "not yet")]
    request = inquiries.get_map(TEN_S)
    lab.session.request(request, lab.now_us)
    lab.advance(2_500_000)

    node.answer = None
    lab.run(request)

    assert request.error is None


def test_a_node_that_answers_no_pings_is_dialled_again(lab: Any) -> None:
    node = lab.cluster.nodes[0]
    before = lab.sockets[node.address]
    node.paused = True

    lab.advance(4_500_000)

    assert sum(CLIENT_CODEC.decode(frames[0]) == Ping(lab.session.clock.latest) for _, frames in node.held) >= 3
    assert lab.sockets[node.address] != before


def test_an_unasked_answer_counts_as_life(lab: Any) -> None:
    lab.advance(10_000_000)

    assert {node.address for node in lab.cluster.nodes} == set(lab.routes)


def test_a_read_follows_the_hint_to_the_leader(lab: Any) -> None:
    partition = lab.cluster.partition_of("s")
    old = lab.cluster.leading(partition)
    lab.cluster.elect(partition, lab.cluster.other(old))
    began_us = lab.now_us

    request = lab.ask(version_of(lab))

    assert request.result == 0
    assert lab.now_us == began_us


def test_a_read_at_a_stopped_leader_moves_when_another_leads(lab: Any) -> None:
    partition = lab.cluster.partition_of("s")
    old = lab.cluster.leading(partition)
    old.paused = True
    request = version_of(lab)
    lab.session.request(request, lab.now_us)
    lab.settle()

    lab.push(lab.cluster.elect(partition, lab.cluster.other(old)))
    lab.settle()

    assert request.result == 0


def test_a_read_without_a_leader_exceeds_its_deadline(lab: Any) -> None:
    lab.crash(lab.cluster.leading(lab.cluster.partition_of("s")))

    request = lab.ask(version_of(lab, timeout=1.0))

    assert type(request.error) is DeadlineExceeded
    assert "1 s" in str(request.error)


def test_any_replica_answers_a_read_that_may_be_old(lab: Any) -> None:
    for _ in range(40):
        lab.ask(version_of(lab, consistency="any"))

    asked = {node.name for node in lab.cluster.nodes if any(isinstance(each, GetVersion) for each in node.hears)}
    assert asked == {"node-1", "node-2", "node-3"}


def test_a_read_that_may_be_old_is_refused_soon_by_a_replica_that_stays_behind(lab: Any, fake_cluster: Any) -> None:
    behind = lab.cluster.nodes[0]
    refused_after_us = []

    def wait_in_vain(message: Any, _: Any) -> Any:
        if not isinstance(message, GetVersion):
            return None
        refused_after_us.append(message.deadline_us - fake_cluster.NODE_CLOCK_AHEAD_US - lab.now_us)
        return [Failed(message.request, Code.NOT_READY, "the deadline passed", "", 0)]

    behind.answer = wait_in_vain
    requests = [lab.ask(version_of(lab, consistency="any", timeout=8.0)) for _ in range(20)]

    assert [request.error for request in requests] == [None] * 20
    assert refused_after_us
    assert max(refused_after_us) <= 1_000_000


def test_a_read_that_only_the_leader_may_answer_waits_there_until_its_deadline(lab: Any, fake_cluster: Any) -> None:
    lab.ask(version_of(lab, timeout=8.0))

    (asked,) = [each for node in lab.cluster.nodes for each in node.hears if isinstance(each, GetVersion)]
    assert asked.deadline_us - fake_cluster.NODE_CLOCK_AHEAD_US - lab.now_us > 7_000_000


def test_a_read_that_may_be_old_leaves_a_silent_replica(lab: Any) -> None:
    for node in lab.cluster.nodes[1:]:
        node.paused = True

    requests = [lab.ask(version_of(lab, consistency="any")) for _ in range(5)]

    assert [request.error for request in requests] == [None] * 5


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (Code.BEYOND_HEAD, InvalidArgument),
        (Code.INVALID, InvalidArgument),
        (Code.ACCESS_DENIED, AccessDenied),
        (Code.CONTEXT_NOT_FOUND, ContextNotFound),
        (99, None),
    ],
)
def test_a_final_refusal_ends_a_request_and_any_other_repeats_it(
    lab: Any, code: int, error: type[Exception] | None
) -> None:
    leader = lab.cluster.leading(lab.cluster.partition_of("s"))
    codes = iter([code])

    def refuse(message: Any, _: Any) -> Any:
        if not isinstance(message, GetVersion):
            return None
        return [
            Failed(message.request, next_code, "why", "", 0) for next_code in (next(codes, None),) if next_code
        ] or None

    leader.answer = refuse
    request = lab.ask(version_of(lab))

    assert type(request.error) is (type(None) if error is None else error)


def test_a_damaged_chunk_is_asked_for_again(lab: Any) -> None:
    lab.run(lab.append("s", data=b"x" * 20))
    damaged = [lab.cluster.streams[1, "s"][0].events[:-1]]

    def damage_once(message: Any, _: Any) -> Any:
        if isinstance(message, ReadStream) and damaged:
            answer = StreamIs(message.request, 1, 1, more=False)
            return [[CLIENT_CODEC.encode(answer), pack_chunk([(1, 1, 1, damaged.pop())])]]
        return None

    lab.cluster.leading(lab.cluster.partition_of("s")).answer = damage_once
    read = lab.calls.read("s", 0, None, False, "linearizable", None, None)
    request = lab.ask(read.next_request())

    assert not damaged
    assert [event.data for event in read.take(request.result)] == [b"x" * 20]


def test_a_chunk_that_is_damaged_each_time_is_a_protocol_error(lab: Any) -> None:
    lab.run(lab.append("s", data=b"x" * 20))
    lab.cluster.streams[1, "s"][0].events = lab.cluster.streams[1, "s"][0].events[:-1]

    request = lab.ask(lab.calls.read("s", 0, None, False, "linearizable", None, None).next_request())

    assert type(request.error) is ProtocolError
    assert "damaged" in str(request.error)


def test_a_context_whose_creation_got_no_answer_may_be_there(lab: Any) -> None:
    for node in lab.cluster.nodes:
        node.answer = lambda message, _: [] if isinstance(message, CreateContext) else None

    request = lab.ask(lab.calls.create_context("accounts", False, 1.0))

    assert type(request.error) is OutcomeUnknown


@pytest.mark.parametrize(
    ("copies", "error"),
    [
        ([], OutcomeUnknown),
        ([Code.OPEN], OutcomeUnknown),
        ([Code.OPEN, Code.NOT_LEADER], OutcomeUnknown),
        ([Code.OPEN, Code.NOT_LEADER, Code.CONTEXT_EXISTS], OutcomeUnknown),
        ([Code.NOT_LEADER, Code.DEADLINE_PAST], Unavailable),
        ([Code.NOT_LEADER, Code.CONTEXT_EXISTS], InvalidArgument),
    ],
)
def test_that_nothing_was_changed_is_said_only_when_every_copy_was_refused(
    lab: Any, copies: list[Code], error: type[Exception]
) -> None:
    codes = iter(copies)

    def refuse(message: Any, _: Any) -> Any:
        if not isinstance(message, CreateContext):
            return None
        code = next(codes, copies[-1] if copies else None)
        return [] if code is None else [Failed(message.request, code, "why", "", 0)]

    for node in lab.cluster.nodes:
        node.answer = refuse

    request = lab.ask(lab.calls.create_context("accounts", False, 1.0))

    assert type(request.error) is error
    assert ("nothing was changed" in str(request.error)) == (error is Unavailable)


def test_a_quiet_client_asks_for_no_maps(lab: Any) -> None:
    for node in lab.cluster.nodes:
        node.hears.clear()

    lab.advance(5_000_000)

    assert not [each for node in lab.cluster.nodes for each in node.hears if isinstance(each, GetMap)]
