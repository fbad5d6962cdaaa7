"""The session against a network and nodes that fail at random: whatever is told must be true of the log."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from rewind.errors import OutcomeUnknown
from rewind_cluster.client_messages import Code

STREAM = "s"
SHORT_S = 0.3
AMPLE_S = 60.0
REFUSALS = (Code.OVERLOADED, Code.STORAGE_FULL, Code.NOT_READY, Code.CONTEXT_LAGGING, Code.DEADLINE_PAST)


def misbehave(lab: Any, chance: random.Random) -> None:
    """Let one thing go wrong, or come right."""
    partition = lab.cluster.partition_of(STREAM)
    node = chance.choice(lab.cluster.nodes)
    kind = chance.randrange(8)
    if kind == 0:
        lab.push(lab.cluster.elect(partition, node))
    elif kind == 1:
        lab.cluster.elect(partition, node)  # and nobody tells the client
    elif kind == 2:
        lab.lossy.symmetric_difference_update([node.address])
    elif kind == 3:
        lab.drop(node)
    elif kind == 4:
        node.clients.clear()
    elif kind == 5 and not node.paused:
        node.paused = True
    elif kind == 6 and node.paused:
        lab.resume(node)
    elif kind == 7:
        node.refuse = lambda _: chance.choice(REFUSALS) if chance.random() < 0.3 else None


def heal(lab: Any) -> None:
    lab.lossy.clear()
    for node in lab.cluster.nodes:
        node.refuse = None
        if node.paused:
            lab.resume(node)
        lab.drop(node)  # what was lost on a connection is known to be lost once it breaks


@pytest.mark.parametrize("seed", range(150))
def test_what_is_told_is_true_and_in_order(make_lab: Callable[..., Any], seed: int) -> None:
    chance = random.Random(seed)
    lab = make_lab().connect()
    appends = []
    for _ in range(60):
        timeouts = chance.choices((SHORT_S, AMPLE_S, AMPLE_S), k=chance.randrange(4))
        appends.extend(lab.append(STREAM, timeout=timeout) for timeout in timeouts)
        misbehave(lab, chance)
        lab.advance(chance.choice((0, 1_000, 20_000, 400_000)))
    heal(lab)
    lab.run(*appends)

    stored = lab.cluster.ids(STREAM)
    ids = [_id(append) for append in appends]
    assert len(stored) == len(set(stored))
    for append, event_id in zip(appends, ids, strict=True):
        if append.error is None:
            assert stored[append.result.version - 1] == event_id
        elif not isinstance(append.error, OutcomeUnknown):
            assert event_id not in stored
    order = [ids.index(event_id) for event_id in stored]
    assert order == sorted(order)
    assert all(append.error is None for append in appends if append.timeout_us == AMPLE_S * 1e6), "time was ample"


def _id(append: Any) -> bytes:
    ids: bytes = append.parts[0][2].ids
    return ids
