"""What a node refuses of requests about groups: the wrong place, the wrong time, what is over a limit, and garbage."""

from typing import Any

import msgpack
import pytest
from groups_by_hand import CONTEXT, GROUP, Member, Operator

from rewind_cluster.client_messages import CLIENT_CODEC, Code, CreateContext, Refused
from rewind_cluster.groups import (
    ATTEMPTS_MAX,
    LABEL_CHARACTERS_MAX,
    PARKED_MAX,
    REASON_CHARACTERS_MAX,
    SETTLE_ATTEMPTS_MAX,
    SETTLE_PARKS_MAX,
    SETTLE_RANGES_MAX,
    SETTLE_REPLAYS_MAX,
    AttendGroup,
    ClaimGroup,
    DeleteGroup,
    GroupDone,
    ListGroups,
    ListParked,
    ReplayParked,
    ResetGroup,
    SettleGroup,
)

MEMBER = b"m" * 16
SETTLE: dict[str, Any] = {
    "group": GROUP,
    "epoch": 1,
    "settled": [],
    "attempts": [],
    "parks": [],
    "replayed": [],
    "release": False,
}


def settle(**fields):
    return SettleGroup, tuple((SETTLE | fields).values())


REQUESTS = [
    (AttendGroup, (GROUP, MEMBER, "label", [], False)),
    (ClaimGroup, (GROUP, MEMBER, 0, 5)),
    settle(),
    (ResetGroup, (GROUP, 0)),
    (DeleteGroup, (GROUP,)),
    (ReplayParked, (GROUP, None, False)),
    (ListGroups, (None,)),
    (ListParked, (GROUP, 0, 10)),
]
OUTSIDE = [
    (AttendGroup, (GROUP, b"", "label", [], False), Code.INVALID),
    (AttendGroup, (GROUP, MEMBER, "x" * (LABEL_CHARACTERS_MAX + 1), [], False), Code.TOO_LARGE),
    (AttendGroup, (GROUP, MEMBER, "label", list(range(1025)), False), Code.TOO_LARGE),
    (ClaimGroup, (GROUP, b"m" * 17, 0, 5), Code.INVALID),
    (ClaimGroup, (GROUP, MEMBER, 0, 0), Code.INVALID),
    (ClaimGroup, (GROUP, MEMBER, 0, ATTEMPTS_MAX + 1), Code.INVALID),
    (ClaimGroup, (GROUP, MEMBER, 1, 5), Code.BEYOND_HEAD),
    (ClaimGroup, ("", MEMBER, 0, 5), Code.INVALID),
    (ClaimGroup, ("a b", MEMBER, 0, 5), Code.INVALID),
    (ClaimGroup, ("a" * 65, MEMBER, 0, 5), Code.INVALID),
    (*settle(settled=[[2 * n, 2 * n] for n in range(1, SETTLE_RANGES_MAX + 2)]), Code.TOO_LARGE),
    (*settle(attempts=[[1, 1, True]] * (SETTLE_ATTEMPTS_MAX + 1)), Code.TOO_LARGE),
    (*settle(parks=[[1, 1, ""]] * (SETTLE_PARKS_MAX + 1)), Code.TOO_LARGE),
    (*settle(parks=[[1, 1, "ü" * (REASON_CHARACTERS_MAX + 1)]]), Code.TOO_LARGE),
    (*settle(replayed=list(range(SETTLE_REPLAYS_MAX + 1))), Code.TOO_LARGE),
    (*settle(), Code.FENCED),
    (ResetGroup, (GROUP, 1), Code.BEYOND_HEAD),
    (ReplayParked, (GROUP, list(range(PARKED_MAX + 1)), False), Code.TOO_LARGE),
    (ReplayParked, (GROUP, None, False), Code.GROUP_NOT_FOUND),
    (ListParked, (GROUP, 0, 10), Code.GROUP_NOT_FOUND),
    (ListGroups, ("no name",), Code.INVALID),
]
MALFORMED = [
    (AttendGroup, (GROUP, MEMBER, "label", [2, 1], False)),
    (AttendGroup, (GROUP, MEMBER, "label", ["1"], False)),
    settle(settled=[[1]]),
    settle(settled=[[2, 1]]),
    settle(settled=[[0, 1]]),
    settle(settled=[[1, 2], [2, 3]]),
    settle(settled=[["1", 2]]),
    settle(attempts=[[1, 1]]),
    settle(attempts=[[1, -1, True]]),
    settle(parks=[[1, 1, b"why"]]),
    settle(parks=[None]),
    settle(replayed=[1, 1]),
    settle(replayed=[-1]),
    (ReplayParked, (GROUP, [1.5], False)),
]


@pytest.fixture
def coordinator(cluster):
    return cluster.partition_of(GROUP)


@pytest.fixture
def anyone(cluster, coordinator):
    return Operator(cluster.client(), coordinator)


@pytest.mark.parametrize(("kind", "fields"), REQUESTS)
def test_who_does_not_lead_names_the_leader(cluster, coordinator, anyone, kind, fields):
    leader = cluster.await_leader(coordinator)
    follower = next(host for host in cluster.hosts if host is not leader)

    told = anyone.ask(kind, *fields, host=follower)

    assert told is Code.NOT_LEADER
    assert anyone.refusal.node_id == leader.node_id


@pytest.mark.parametrize(("kind", "fields"), REQUESTS)
def test_what_arrives_too_late_or_about_nothing_is_refused(cluster, coordinator, anyone, kind, fields):
    leader = cluster.await_leader(coordinator)
    client = anyone.client
    client.hello(leader)

    late, _ = client.ask(leader, kind, coordinator, CONTEXT, *fields, 0)
    lost, _ = client.ask(leader, kind, coordinator, 7777, *fields, client.deadline_us)
    nowhere, _ = client.ask(leader, kind, 99, CONTEXT, *fields, client.deadline_us)

    assert [late.code, lost.code, nowhere.code] == [Code.DEADLINE_PAST, Code.CONTEXT_LAGGING, Code.NOT_READY]


@pytest.mark.parametrize(("kind", "fields"), REQUESTS)
def test_a_partition_that_has_no_part_in_an_ordered_context_says_so(cluster, anyone, kind, fields):
    control = cluster.await_leader(0)
    client = anyone.client
    client.hello(control)
    context, _ = client.ask(control, CreateContext, "ordered", True, client.deadline_us)
    other = 3 - context.partition
    leader = cluster.await_leader(other)
    client.hello(leader)
    cluster.until(lambda: context.number in leader.core.map.contexts)

    told, _ = client.ask(leader, kind, other, context.number, *fields, client.deadline_us)

    assert told.code == Code.WRONG_PARTITION


@pytest.mark.parametrize(("kind", "fields", "code"), OUTSIDE)
def test_what_is_outside_the_rules_gets_its_code_and_changes_nothing(anyone, kind, fields, code):
    told = anyone.ask(kind, *fields)

    assert told is code
    assert anyone.refusal.text
    assert anyone.names() == []


@pytest.mark.parametrize(("kind", "fields"), MALFORMED)
def test_what_does_not_follow_the_protocol_ends_the_connection_and_not_the_node(
    cluster, coordinator, anyone, kind, fields
):
    leader = cluster.await_leader(coordinator)
    client = anyone.client
    client.hello(leader)
    whole = Member(cluster.client("other"), coordinator)
    whole.claim()

    header = CLIENT_CODEC.encode(kind(1, coordinator, CONTEXT, *fields, client.deadline_us))
    client.send_raw(leader, [header])
    told, _ = client.await_message(lambda message: isinstance(message, Refused))

    assert told.code == "malformed"
    assert whole.settle(epoch=whole.epoch)
    assert msgpack.unpackb(header)[0] >= 60


def test_answers_of_nodes_are_never_taken_from_clients(cluster, coordinator, anyone):
    leader = cluster.await_leader(coordinator)
    anyone.client.hello(leader)

    anyone.client.send(leader, GroupDone(1, 1))

    told, _ = anyone.client.await_message(lambda message: isinstance(message, Refused))
    assert told.code == "malformed"
