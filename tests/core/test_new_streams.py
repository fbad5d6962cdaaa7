"""Runs that begin new streams are judged all at once; whatever is in one, the answers are as if one by one."""

from collections import Counter

import pytest
from runs_by_hand import answers, run_of, send

from rewind_cluster.client_messages import Code, CreateContext
from rewind_cluster.names import STREAM_BYTES_MAX
from rewind_node.leadership import Leadership

PARTITION = 1


def owned(cluster, count, partition=PARTITION):
    """Return names without a tag whose streams live in the partition."""
    names = (f"s-{number}" for number in range(100 * count))
    return [name for name in names if cluster.partition_of(name) == partition][:count]


def begin(names, expected=0):
    """Return appends of one event to each stream."""
    return [[(name, expected, [f"e{place}"])] for place, name in enumerate(names)]


@pytest.fixture
def judged(monkeypatch):
    """Return a counter of how runs were judged: at once (True) or one by one (False)."""
    told = Counter()
    at_once = Leadership._are_new

    def are_new(*arguments):
        answer = at_once(*arguments)
        told[answer] += 1
        return answer

    monkeypatch.setattr(Leadership, "_are_new", are_new)
    return told


def play(make_cluster, *bursts):
    """Send bursts of runs, each when the one before is answered, and return the answers."""
    cluster = make_cluster(3).start()
    client = cluster.client()
    number = 1
    told = {}
    for burst in bursts:
        runs = []
        for appends in burst:
            runs.append(run_of(number, appends))
            number += len(appends)
        send(client, cluster.leader(PARTITION), PARTITION, runs)
        told |= answers(client, sum(map(len, burst)))
    return told


@pytest.fixture
def both_ways(make_cluster, monkeypatch):
    """Return the function that plays bursts as shipped and one by one, and returns both answers."""

    def play_both(*bursts):
        shipped = play(make_cluster, *bursts)
        monkeypatch.setattr(Leadership, "_are_new", lambda *_: False)
        return shipped, play(make_cluster, *bursts)

    return play_both


def test_new_streams_are_judged_at_once(cluster, judged, both_ways):
    names = owned(cluster, 50)

    shipped, one_by_one = both_ways([begin(names)])

    assert judged == {True: 1}
    assert shipped == one_by_one == {number: [[1, number]] for number in range(1, 51)}


def test_a_stream_that_comes_twice_in_a_run_is_new_once(cluster, both_ways):
    first, second = owned(cluster, 2)

    shipped, one_by_one = both_ways([begin([first, second, first])])

    assert shipped == one_by_one == {1: [[1, 1]], 2: [[1, 2]], 3: Code.WRONG_VERSION}


def test_a_stream_of_the_uncommitted_tail_is_not_new(cluster, both_ways):
    names = owned(cluster, 3)

    shipped, one_by_one = both_ways([begin(names[:2]), begin(names[1:])])

    assert shipped == one_by_one == {1: [[1, 1]], 2: [[1, 2]], 3: Code.WRONG_VERSION, 4: [[1, 3]]}


def test_a_stream_of_the_applied_log_is_not_new(cluster, both_ways):
    names = owned(cluster, 3)

    shipped, one_by_one = both_ways([begin(names[:2])], [begin(names[1:])])

    assert shipped == one_by_one == {1: [[1, 1]], 2: [[1, 2]], 3: Code.WRONG_VERSION, 4: [[1, 3]]}


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_stream_of_another_partition_is_refused_wherever_it_stands(cluster, both_ways, place):
    names = owned(cluster, 2)
    names.insert(place, owned(cluster, 1, partition=2)[0])

    shipped, one_by_one = both_ways([begin(names)])

    assert shipped == one_by_one
    assert [number for number, answer in shipped.items() if answer == Code.WRONG_PARTITION] == [place + 1]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", Code.INVALID),
        ("with\na line's end", Code.INVALID),
        ("\x7f", Code.INVALID),
        ("x" * (STREAM_BYTES_MAX + 1), Code.TOO_LARGE),
    ],
)
def test_a_name_outside_the_rules_is_refused_alone(cluster, both_ways, name, code):
    good, other = owned(cluster, 2)
    endings = ("", *map(str, range(100)))
    bad = next(name + ending for ending in endings if cluster.partition_of(name + ending) == PARTITION)

    shipped, one_by_one = both_ways([begin([good, bad, other])])

    assert shipped == one_by_one == {1: [[1, 1]], 2: code, 3: [[1, 2]]}


def test_a_stream_with_a_tag_lives_where_its_tag_says(cluster, both_ways):
    plain = owned(cluster, 1)[0]
    tags = [f"{{t-{number}}}{plain}" for number in range(20)]
    here = next(name for name in tags if cluster.partition_of(name) == PARTITION)
    elsewhere = next(name for name in tags if cluster.partition_of(name) != PARTITION)

    shipped, one_by_one = both_ways([begin([plain, here, elsewhere])])

    assert shipped == one_by_one == {1: [[1, 1]], 2: [[1, 2]], 3: Code.WRONG_PARTITION}


def test_who_does_not_ask_for_a_new_stream_is_judged_by_what_he_asks_for(cluster, both_ways):
    names = owned(cluster, 3)
    appends = [*begin(names[:1]), *begin(names[1:2], expected=-1), *begin(names[2:], expected=4)]

    shipped, one_by_one = both_ways([appends])

    assert shipped == one_by_one == {1: [[1, 1]], 2: [[1, 2]], 3: Code.WRONG_VERSION}


def test_an_ordered_context_takes_any_stream_where_it_lives_and_none_elsewhere(cluster, judged):
    client = cluster.client()
    client.hello(cluster.leader(0))
    created, _ = client.ask(cluster.leader(0), CreateContext, "ledger", True, client.deadline_us)
    cluster.until(lambda: all(created.number in host.core.map.contexts for host in cluster.hosts))
    home = created.partition
    names = [owned(cluster, 1, partition)[0] for partition in (1, 2)]

    for partition in (1, 2):
        send(client, cluster.leader(partition), partition, [run_of(1, begin(names))], context=created.number)
        told = answers(client, 2)

        good = {1: [[1, 1]], 2: [[1, 2]]}
        assert told == (good if partition == home else dict.fromkeys((1, 2), Code.WRONG_PARTITION))
    assert judged[True] == 1
