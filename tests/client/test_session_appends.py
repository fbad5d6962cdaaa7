"""The session's appends: numbers, bursts, copies, and what may be told at the end."""

from typing import Any

import pytest
from appends_by_hand import unpack_batch

from rewind.errors import (
    OutcomeUnknown,
    Overloaded,
    StorageFull,
    Unavailable,
    WrongExpectedVersion,
)
from rewind_cluster.client_messages import (
    CLIENT_CODEC,
    SESSION_WINDOW,
    AppendBatch,
    AppendsDone,
    Code,
    HelloRequired,
    OpenSession,
)


def leading(lab: Any, stream: str = "s") -> Any:
    return lab.cluster.leading(lab.cluster.partition_of(stream))


def test_an_append_is_answered_with_its_place(lab: Any) -> None:
    append = lab.append("s")

    lab.run(append)

    assert append.error is None
    assert (append.result.version, append.result.position) == (1, 1)
    assert append.result.partition == lab.cluster.partition_of("s")
    assert append.result.token == f"cluster-1/1/{append.result.partition}:1"


def test_appends_that_wait_together_travel_in_one_batch(lab: Any) -> None:
    lab.run(lab.append("s"))
    leading(lab).hears.clear()

    appends = [lab.append("s") for _ in range(50)]
    lab.run(*appends)

    assert len(leading(lab).appends()) == 1
    assert [append.result.version for append in appends] == list(range(2, 52))


def test_a_batch_is_closed_when_it_is_large(lab: Any) -> None:
    appends = [lab.append("s", data=bytes(600_000)) for _ in range(4)]

    lab.run(*appends)

    assert len(leading(lab).appends()) == 2


def test_no_more_numbers_than_the_window_are_unsettled(lab: Any) -> None:
    lab.run(lab.append("s"))
    leader = leading(lab)
    leader.paused = True

    appends = [lab.append("s") for _ in range(SESSION_WINDOW + 500)]
    lab.settle()

    sent = sum(len(unpack_batch(frames[1:])) for _, frames in leader.held if len(frames) > 1)
    assert sent == SESSION_WINDOW
    lab.resume(leader)
    lab.run(*appends)
    assert [append.result.version for append in appends] == list(range(2, SESSION_WINDOW + 502))


def test_a_deadline_is_told_in_the_nodes_time(lab: Any, fake_cluster: Any) -> None:
    lab.run(lab.append("s"))
    leading(lab).hears.clear()

    lab.run(lab.append("s", timeout=3.0))

    (batch,) = leading(lab).appends()
    assert batch.deadline_us == lab.now_us + fake_cluster.NODE_CLOCK_AHEAD_US + 3_000_000


def test_after_a_refusal_with_a_hint_all_go_to_the_named_leader_at_once_and_in_order(lab: Any) -> None:
    lab.run(lab.append("s"))
    old = leading(lab)
    partition = lab.cluster.partition_of("s")
    new = lab.cluster.other(old)
    lab.cluster.elect(partition, new)  # and nobody tells the client
    began_us = lab.now_us

    appends = [lab.append("s") for _ in range(5)]
    lab.settle()

    assert [append.result.version for append in appends] == [2, 3, 4, 5, 6]
    assert lab.now_us == began_us
    assert new.appends()[0].epoch > old.appends()[-1].epoch


def test_after_a_refusal_for_load_all_are_sent_again_in_order_in_a_new_epoch(lab: Any) -> None:
    lab.run(lab.append("s"))
    leader = leading(lab)
    refusals = iter([Code.OVERLOADED, Code.OVERLOADED])
    leader.refuse = lambda _: next(refusals, None)
    first_epoch = leader.appends()[-1].epoch

    appends = [lab.append("s") for _ in range(3)]
    lab.run(*appends)

    assert [append.result.version for append in appends] == [2, 3, 4]
    assert [batch.epoch for batch in leader.appends()[1:]] == [first_epoch, first_epoch + 1, first_epoch + 2]


def test_refused_copies_are_not_open(lab: Any) -> None:
    opens: list[bool] = []
    leader = leading(lab)
    refusals = iter([Code.OVERLOADED])

    def spy(_: Any, batch: Any) -> None:
        opens.extend(is_open for _, is_open, _ in batch or [])

    leader.answer = spy
    leader.refuse = lambda _: next(refusals, None)

    lab.run(lab.append("s"))

    assert opens == [False, False]


def test_a_copy_on_a_broken_connection_is_open_and_takes_effect_once(lab: Any) -> None:
    lab.run(lab.append("s"))
    leader = leading(lab)
    opens: list[bool] = []
    leader.answer = lambda _, batch: opens.extend(is_open for _, is_open, _ in batch or [])
    lab.lossy.add(leader.address)

    append = lab.append("s")
    lab.settle()
    lab.lossy.clear()
    lab.drop(leader)
    lab.run(append)

    assert opens == [False, True]
    assert append.result.version == 2
    assert lab.cluster.appended == 2


def test_without_an_answer_the_outcome_is_unknown(lab: Any) -> None:
    lab.run(lab.append("s"))
    lab.lossy.update(node.address for node in lab.cluster.nodes)

    append = lab.append("s", timeout=1.0)
    lab.run(append)

    assert isinstance(append.error, OutcomeUnknown)
    assert lab.cluster.appended == 2


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (Code.OVERLOADED, Overloaded),
        (Code.STORAGE_FULL, StorageFull),
        (Code.NOT_READY, Unavailable),
        (Code.CONTEXT_LAGGING, Unavailable),
        (Code.DEADLINE_PAST, Unavailable),
    ],
)
def test_where_every_copy_was_refused_the_failure_is_definite(lab: Any, code: Code, error: type[Exception]) -> None:
    lab.run(lab.append("s"))
    leading(lab).refuse = lambda _: code

    append = lab.append("s", timeout=1.0)
    lab.run(append)

    assert type(append.error) is error
    assert lab.cluster.appended == 1


def test_one_open_copy_makes_the_outcome_unknown_however_many_were_refused(lab: Any) -> None:
    lab.run(lab.append("s"))
    leader = leading(lab)
    lab.lossy.add(leader.address)
    append = lab.append("s", timeout=1.0)
    lab.settle()
    lab.lossy.clear()
    leader.refuse = lambda _: Code.OVERLOADED

    lab.drop(leader)
    lab.run(append)

    assert isinstance(append.error, OutcomeUnknown)


def test_an_append_that_was_answered_open_stays_open(lab: Any) -> None:
    lab.run(lab.append("s"))
    codes = iter([Code.OPEN])
    leading(lab).refuse = lambda _: next(codes, Code.OVERLOADED)

    append = lab.append("s", timeout=1.0)
    lab.run(append)

    assert isinstance(append.error, OutcomeUnknown)


def test_without_a_leader_an_append_is_surely_not_written(lab: Any) -> None:
    leader = leading(lab)
    lab.crash(leader)

    append = lab.append("s", timeout=1.0)
    lab.run(append)

    assert type(append.error) is Unavailable
    assert leader.address in str(append.error)


def test_a_session_that_cannot_be_opened_for_want_of_space_is_told_as_such(lab: Any, fake_cluster: Any) -> None:
    refuse = fake_cluster.Failed
    leading(lab).answer = lambda message, _: (
        [refuse(message.request, Code.STORAGE_FULL, "disk space is below the reserve", "", 0)]
        if isinstance(message, fake_cluster.OpenSession)
        else None
    )

    append = lab.append("s", timeout=1.0)
    lab.run(append)

    assert type(append.error) is StorageFull


def test_a_wrong_version_is_final_at_once(lab: Any) -> None:
    lab.run(lab.append("s"))
    began_us = lab.now_us

    append = lab.append("s", expected=0)
    lab.settle()

    assert isinstance(append.error, WrongExpectedVersion)
    assert (append.error.stream, append.error.expected, append.error.actual) == ("s", 0, 1)
    assert lab.now_us == began_us


def test_a_wrong_version_that_only_one_copy_met_is_not_believed_while_another_is_open(lab: Any) -> None:
    """The first copy was refused by a leader that was deposed; the second is taken by the next."""
    lab.run(lab.append("s"))
    partition = lab.cluster.partition_of("s")
    old = leading(lab)
    new = lab.cluster.other(old)
    old.paused = True
    append = lab.append("s", expected=1)
    lab.settle()
    new.paused = True
    lab.push(lab.cluster.elect(partition, new))
    lab.advance(400_000)  # the map's news move the burst to the new leader, which says nothing yet

    batch = AppendBatch
    held = [frames for _, frames in old.held if len(frames) > 1]
    assert held
    (sequence, _, _), *_ = unpack_batch(held[-1][1:])
    refusal = [sequence, int(Code.WRONG_VERSION), "s", 1, 0, False]
    first = _last_batch(old, batch)
    assert _last_batch(new, batch).epoch > first.epoch
    told = AppendsDone(partition, first.session, first.epoch, [refusal], 0)
    lab.push([(old, lab.routes[old.address], [_encode(told)])])
    lab.settle()

    assert append.error is None
    lab.resume(new)
    lab.run(append)
    assert append.result.version == 2


def test_an_answer_of_an_older_epoch_is_true_and_its_refusal_settles_one_copy(lab: Any) -> None:
    lab.run(lab.append("s"))
    partition = lab.cluster.partition_of("s")
    old = leading(lab)
    new = lab.cluster.other(old)
    old.paused = new.paused = True
    taken, refused = lab.append("s", timeout=2.0), lab.append("s", timeout=2.0)
    lab.settle()
    lab.cluster.elect(partition, new)
    lab.advance(400_000)
    first = _last_batch(old, AppendBatch)

    answers = [[2, 0, [7], 7, 99, None, None], [3, int(Code.OVERLOADED), "full"]]
    told = AppendsDone(partition, first.session, first.epoch, answers, 0)
    lab.push([(old, lab.routes[old.address], [_encode(told)])])
    lab.settle()

    assert taken.result.version == 7
    lab.run(refused)
    assert isinstance(refused.error, OutcomeUnknown)


def test_a_stopped_leader_does_not_keep_appends_when_another_is_announced(lab: Any) -> None:
    lab.run(lab.append("s"))
    old = leading(lab)
    old.paused = True
    appends = [lab.append("s") for _ in range(3)]
    lab.settle()
    began_us = lab.now_us

    lab.push(lab.cluster.elect(lab.cluster.partition_of("s"), lab.cluster.other(old)))
    lab.settle()

    assert [append.result.version for append in appends] == [2, 3, 4]
    assert lab.now_us == began_us


def test_a_silent_leader_makes_the_client_ask_others_who_leads(lab: Any) -> None:
    lab.run(lab.append("s"))
    old = leading(lab)
    old.paused = True
    append = lab.append("s")
    lab.settle()
    lab.cluster.elect(lab.cluster.partition_of("s"), lab.cluster.other(old))  # and nobody tells the client
    began_us = lab.now_us

    lab.run(append)

    assert append.result.version == 2
    assert 300_000 <= lab.now_us - began_us <= 500_000


def test_late_copies_of_a_stopped_leader_do_not_take_effect_twice(lab: Any) -> None:
    lab.run(lab.append("s"))
    old = leading(lab)
    old.paused = True
    appends = [lab.append("s") for _ in range(3)]
    lab.settle()
    lab.push(lab.cluster.elect(lab.cluster.partition_of("s"), lab.cluster.other(old)))
    lab.run(*appends)

    lab.resume(old)
    lab.settle()

    assert lab.cluster.appended == 4


def test_an_unknown_session_without_open_copies_is_replaced_and_order_kept(lab: Any) -> None:
    lab.run(lab.append("s"))
    lab.cluster.sessions.clear()

    appends = [lab.append("s") for _ in range(4)]
    lab.run(*appends)

    assert [append.result.version for append in appends] == [2, 3, 4, 5]
    assert lab.cluster.appended == 5


def test_an_unknown_session_with_an_open_copy_ends_unknown(lab: Any) -> None:
    lab.run(lab.append("s"))
    leader = leading(lab)
    lab.lossy.add(leader.address)
    lost = lab.append("s")
    lab.settle()
    lab.lossy.clear()
    lab.cluster.sessions.clear()
    began_us = lab.now_us

    lab.drop(leader)
    never_sent = lab.append("s")
    lab.run(lost, never_sent)

    assert isinstance(lost.error, OutcomeUnknown)
    assert never_sent.result.version == 3
    assert lab.now_us - began_us < 1_000_000


def test_nothing_overtakes_an_append_whose_answer_a_lost_session_still_owes(lab: Any) -> None:
    lab.run(lab.append("s"))
    leader = leading(lab)
    leader.paused = True
    first, second = lab.append("s"), lab.append("s")
    lab.settle()
    batch = _last_batch(leader, AppendBatch)

    told = AppendsDone(batch.partition, batch.session, batch.epoch, [[3, int(Code.SESSION_UNKNOWN), "evicted"]], 0)
    lab.push([(leader, lab.routes[leader.address], [_encode(told)])])
    lab.advance(100_000)

    assert not [frames for _, frames in leader.held if isinstance(CLIENT_CODEC.decode(frames[0]), OpenSession)]
    told = AppendsDone(batch.partition, batch.session, batch.epoch, [[2, int(Code.SESSION_UNKNOWN), "evicted"]], 0)
    lab.push([(leader, lab.routes[leader.address], [_encode(told)])])
    leader.held.clear()
    lab.resume(leader)
    lab.run(first, second)
    assert (first.result.version, second.result.version) == (2, 3)


def test_a_deposed_leader_that_does_not_know_the_session_settles_its_copy_only(lab: Any) -> None:
    lab.run(lab.append("s"))
    old = leading(lab)
    new = lab.cluster.other(old)
    old.paused = new.paused = True
    append = lab.append("s")
    lab.settle()
    lab.push(lab.cluster.elect(lab.cluster.partition_of("s"), new))
    lab.settle()
    batch = _last_batch(old, AppendBatch)

    told = AppendsDone(batch.partition, batch.session, batch.epoch, [[2, int(Code.SESSION_UNKNOWN), "unknown"]], 0)
    lab.push([(old, lab.routes[old.address], [_encode(told)])])
    lab.settle()
    lab.resume(new)
    lab.run(append)

    assert append.result.version == 2


def test_a_node_that_forgot_the_connection_is_greeted_and_everything_sent_again(lab: Any) -> None:
    lab.run(lab.append("s"))
    leading(lab).clients.clear()

    appends = [lab.append("s") for _ in range(3)]
    lab.run(*appends)

    assert [append.result.version for append in appends] == [2, 3, 4]


def test_a_call_that_times_out_releases_its_number(lab: Any) -> None:
    lab.run(lab.append("s"))
    leader = leading(lab)
    lab.lossy.add(leader.address)
    lost = lab.append("s", timeout=0.1)
    lab.run(lost)
    lab.lossy.clear()

    lab.run(lab.append("s"))

    assert leader.appends()[-1].low == 3


def test_an_answer_outside_the_protocol_costs_the_connection_and_no_append(lab: Any) -> None:
    lab.run(lab.append("s"))
    leader = leading(lab)
    garbage = iter([[b"\xc1"], [_encode(HelloRequired("x"))[:2]]])
    leader.answer = lambda _, batch: [next(garbage)] if batch and leader.garbage.pop() else None
    leader.garbage = [False, True]

    append = lab.append("s")
    lab.run(append)

    assert append.result.version == 2
    assert lab.cluster.appended == 2


def test_a_closing_session_tells_each_append_what_is_known(lab: Any) -> None:
    lab.run(lab.append("s"))
    leading(lab).paused = True
    other = next(f"t{n}" for n in range(99) if leading(lab, f"t{n}") is not leading(lab))
    lab.crash(leading(lab, other))
    sent, waiting = lab.append("s"), lab.append(other)
    lab.settle()

    lab.session.abandon()
    lab.settle()

    assert isinstance(sent.error, OutcomeUnknown)
    assert type(waiting.error) is Unavailable


def _encode(message: Any) -> bytes:
    return CLIENT_CODEC.encode(message)


def _last_batch(node: Any, kind: type[Any]) -> Any:
    decoded = [CLIENT_CODEC.decode(frames[0]) for _, frames in node.held]
    return [message for message in decoded if isinstance(message, kind)][-1]
