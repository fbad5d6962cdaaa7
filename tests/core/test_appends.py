"""Appends through a whole cluster of node cores: promises 1 to 4 of exactly once, and what may be refused when."""

from appends_by_hand import AppendPart, AppendRequest

from rewind_cluster.client_messages import Code


def test_an_append_is_answered_with_version_and_position(cluster, named, places_of):
    client = cluster.client()

    first = client.append("order-1", named("a", "b"), 0)
    second = client.append("order-1", named("c"), 2)

    assert places_of(first) == [[2, 2]]
    assert places_of(second) == [[3, 3]]
    assert second[1][0][2] > first[1][0][2]
    assert client.read("order-1") == ["a", "b", "c"]


def test_a_repeated_append_takes_effect_once_and_gets_the_first_answer(cluster, named):
    client = cluster.client()
    first = client.append("order-1", named("a"), sequence=1)

    again = client.append("order-1", named("a"), sequence=1, is_open=True)

    assert again == first
    assert client.read("order-1") == ["a"]


def test_a_refusal_names_the_actual_version(cluster, named):
    client = cluster.client()
    client.append("order-1", named("a", "b"), 0)

    answer = client.append("order-1", named("c"), 1)

    assert answer == [Code.WRONG_VERSION, "order-1", 1, 2, False]


def test_an_append_whose_events_stand_already_gets_the_first_answer_from_any_session(cluster, named):
    first = cluster.client("one").append("order-1", named("a", "b"), 0)

    again = cluster.client("two").append("order-1", named("a", "b"), 0)

    assert again == first


def test_a_refused_copy_is_never_taken_later(cluster, named):
    client = cluster.client()
    refused = client.append("order-1", named("c"), 1, sequence=1, is_open=True)
    client.append("order-1", named("a"), 0, sequence=2)

    late_copy = client.append("order-1", named("c"), 1, sequence=1)

    assert refused == [Code.WRONG_VERSION, "order-1", 1, 0, True]
    assert late_copy == refused
    assert client.read("order-1") == ["a"]


def test_a_logged_refusal_outlives_the_leader(cluster, named):
    client = cluster.client()
    refused = client.append("order-1", named("c"), 1, sequence=1, is_open=True)
    client.append("order-1", named("a"), 0, sequence=2)
    old = cluster.leader(cluster.partition_of("order-1"))
    old.crash()
    new = cluster.await_leader(cluster.partition_of("order-1"))
    client.hello(new)

    answer = client.append("order-1", named("c"), 1, sequence=1, host=new)

    assert answer == refused


def test_a_retry_at_the_next_leader_gets_the_first_answer(cluster, named):
    client = cluster.client()
    first = client.append("order-1", named("a"), 0, sequence=1)
    cluster.leader(cluster.partition_of("order-1")).crash()
    new = cluster.await_leader(cluster.partition_of("order-1"))
    client.hello(new)

    again = client.append("order-1", named("a"), 0, sequence=1, is_open=True, host=new)

    assert again == first
    assert client.read("order-1") == ["a"]


def test_a_retry_after_every_node_has_crashed_gets_the_first_answer(cluster, named):
    client = cluster.client()
    first = client.append("order-1", named("a"), 0, sequence=1)
    for host in cluster.hosts:
        host.crash()
    for host in cluster.hosts:
        host.start()
    leader = cluster.await_leader(cluster.partition_of("order-1"))
    client.hello(leader)

    again = client.append("order-1", named("a"), 0, sequence=1, is_open=True)

    assert again == first
    assert client.read("order-1") == ["a"]


def test_an_append_below_the_low_water_mark_is_refused_also_after_a_restart(cluster, named):
    client = cluster.client()
    client.append("order-1", named("a"), sequence=5, low=5)
    for host in cluster.hosts:
        host.crash()
    for host in cluster.hosts:
        host.start()
    client.hello(cluster.await_leader(cluster.partition_of("order-1")))

    answer = client.append("order-1", named("b"), sequence=4)

    assert answer[0] == Code.SETTLED
    assert client.read("order-1") == ["a"]


def test_an_unknown_session_is_refused_and_nothing_executed(cluster, named):
    client = cluster.client()
    client.append("order-1", named("a"))
    client.sessions[cluster.partition_of("order-1")] = 999

    answer = client.append("order-1", named("b"))

    assert answer[0] == Code.SESSION_UNKNOWN
    assert client.read("order-1") == ["a"]


def test_an_evicted_session_is_refused_on_every_replica(cluster, named, monkeypatch):
    monkeypatch.setattr("rewind_node.sessions.SESSIONS_MAX", 2)
    first = cluster.client("first")
    first.append("order-1", named("a"), sequence=1)
    for name in ("second", "third"):
        cluster.client(name).append("order-1", named(name))
    leader = cluster.leader(cluster.partition_of("order-1"))

    at_leader = first.append("order-1", named("b"), sequence=2)
    leader.crash()
    new = cluster.await_leader(cluster.partition_of("order-1"))
    first.hello(new)
    at_next = first.append("order-1", named("b"), sequence=3, host=new)

    assert at_leader[0] == at_next[0] == Code.SESSION_UNKNOWN


def test_after_one_refusal_the_rest_of_an_epoch_is_refused(cluster, named, places_of):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.session(partition)
    follower = next(host for host in cluster.hosts if host is not cluster.leader(partition))
    client.hello(follower)
    requests = [AppendRequest(number, False, (AppendPart("order-1", -1, named(f"e{number}")),)) for number in (1, 2)]

    client.send_append(follower, partition, requests[:1], epoch=1)
    first = client.answer(partition, 1)
    follower.core.replicas[partition].raft.campaign(cluster.now_us)
    cluster.leader(partition).core.replicas[partition].raft.transfer(
        follower.core.replicas[partition].raft.replica, cluster.now_us
    )
    cluster.until(lambda: cluster.leader(partition) is follower)
    client.send_append(follower, partition, requests[1:], epoch=1)
    same_epoch = client.answer(partition, 2)
    client.send_append(follower, partition, requests, epoch=2)
    next_epoch = client.answer(partition, 1), client.answer(partition, 2)

    assert first[0] == Code.NOT_LEADER
    assert same_epoch[0] == Code.EPOCH
    assert [places_of(answer) for answer in next_epoch] == [[[1, 1]], [[2, 2]]]


def test_appends_to_several_streams_are_atomic(cluster, named, places_of):
    client = cluster.client()
    partition = cluster.partition_of("{tag}-a")
    client.session(partition)
    parts = (AppendPart("{tag}-a", 0, named("x", "y")), AppendPart("{tag}-b", 0, named("z")))
    wrong = (AppendPart("{tag}-a", 2, named("u")), AppendPart("{tag}-b", 7, named("v")))

    client.send_append(cluster.leader(partition), partition, [AppendRequest(1, False, parts)])
    taken = client.answer(partition, 1)
    client.send_append(cluster.leader(partition), partition, [AppendRequest(2, False, wrong)])
    refused = client.answer(partition, 2)

    assert places_of(taken) == [[2, 2], [1, 3]]
    assert refused == [Code.WRONG_VERSION, "{tag}-b", 7, 1, False]
    assert (client.version("{tag}-a"), client.version("{tag}-b")) == (2, 1)


def test_a_stream_of_another_partition_is_refused(cluster, named):
    client = cluster.client()
    mine = cluster.partition_of("order-1")
    foreign = next(f"order-{n}" for n in range(100) if cluster.partition_of(f"order-{n}") != mine)
    client.session(mine)
    request = AppendRequest(1, False, (AppendPart(foreign, -1, named("a")),))

    client.send_append(cluster.leader(mine), mine, [request])

    assert client.answer(mine, 1)[0] == Code.WRONG_PARTITION


def test_what_was_not_committed_by_a_cut_off_leader_is_answered_as_open_and_executed_once(cluster, named, places_of):
    client = cluster.client()
    partition = cluster.partition_of("order-1")
    client.append("order-1", named("a"), 0, sequence=1)
    old = cluster.leader(partition)
    for host in cluster.hosts:
        if host is not old:
            cluster.cut(old, host)
    request = AppendRequest(2, False, (AppendPart("order-1", 1, named("b")),))

    client.send_append(old, partition, [request])
    at_old = client.answer(partition, 2)
    new = cluster.until(lambda: (host := cluster.leader(partition)) and host is not old and host)
    client.hello(new)
    retried = client.append("order-1", named("b"), 1, sequence=2, is_open=True, host=new)
    cluster.heal()
    cluster.turns(3000)

    assert at_old[0] == Code.OPEN
    assert places_of(retried) == [[2, 2]]
    assert client.read("order-1") == ["a", "b"]
