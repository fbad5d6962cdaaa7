"""The rounds that find damage before a reader does, while replicas come and go."""

import pytest

from rewind_node import infirmary


def flip(host, table, key):
    """Flip one bit of a stored value, behind the node's back."""
    value = bytearray(host.engine.get(table, key))
    value[len(value) // 2] ^= 1
    host.engine.put(table, [(key, bytes(value))])
    host.engine.commit()


@pytest.fixture
def scrubbed(cluster, named, monkeypatch):
    """Return a function that fills two partitions and returns a host whose scrub is on its way in the first."""
    monkeypatch.setattr(infirmary, "SCRUB_BYTES", 1)  # an entry a slice

    def scrubbed(first, second):
        client = cluster.client()
        due = {1: first, 2: second}
        number = 0
        while any(due.values()):
            number += 1
            partition = cluster.partition_of(f"order-{number}")
            if due[partition]:
                due[partition] -= 1
                client.append(f"order-{number}", named(f"e{number}"), 0)
        cluster.turns(300)
        host = next(host for host in cluster.hosts if host not in (cluster.leader(1), cluster.leader(2)))
        host.core.infirmary._scrubbed = {0}
        host.core.infirmary._scrub_us = 0
        cluster.turns(500)
        assert host.core.infirmary._scrubbed == {0}, "the walk along partition 1 goes on"
        return host

    return scrubbed


def test_a_replica_that_leaves_while_it_is_scrubbed_leaves_its_walk_to_no_other(cluster, scrubbed):
    host = scrubbed(10, 40)
    other = host.core.replicas[2]

    leaving = host.core.touch(host.core.replicas[1])
    leaving.quarantine("a reader met damage")
    cluster.until(lambda: host.core.infirmary._scrubbed >= {0, 2})

    assert host.core.replicas[2] is other, "it was never taken out"


def test_a_replica_is_scrubbed_from_its_first_entry_on_after_another_left_amid_its_walk(cluster, scrubbed):
    host = scrubbed(40, 3)

    leaving = host.core.touch(host.core.replicas[1])
    leaving.quarantine("a reader met damage")
    flip(host, "log:2", (2).to_bytes(8))
    found = cluster.until(lambda: host.core.infirmary.repairs.get(2))

    assert found.partition == 2
