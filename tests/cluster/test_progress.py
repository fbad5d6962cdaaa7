"""A leader's view of a follower: the invariant, and answers that come late."""

from random import Random

import pytest

from rewind_cluster.progress import Progress, ProgressState
from rewind_cluster.raft_messages import ReplicaId
from rewind_cluster.raft_options import RaftOptions

OPTIONS = RaftOptions(inflight_appends_max=3, inflight_bytes_max=100)


def test_the_refusal_of_an_older_probe_changes_nothing() -> None:
    progress = Progress(ReplicaId(2), voter=True, next=3)
    progress.sent(5, 10)

    progress.refused(9, 8)

    assert (progress.next, progress.paused) == (3, True)


def test_a_refused_probe_goes_back_to_the_guess_and_never_below_what_matches() -> None:
    progress = Progress(ReplicaId(2), voter=True, next=50)
    progress.refused(49, 20)
    assert progress.next == 21

    progress.match = 18
    progress.refused(20, 3)

    assert progress.next == 19


def test_acknowledgements_open_the_window() -> None:
    progress = Progress(ReplicaId(2), voter=True, next=1, state=ProgressState.REPLICATE)
    for last in (2, 4, 6):
        progress.sent(last, 10)
    assert not progress.window_open(OPTIONS)

    progress.accepted(4, full=False)

    assert progress.window_open(OPTIONS)
    assert (len(progress.inflight), progress.inflight_bytes, progress.next) == (1, 10, 7)


def test_only_silence_over_a_whole_interval_is_a_stall() -> None:
    progress = Progress(ReplicaId(2), voter=True, next=1, state=ProgressState.REPLICATE)
    progress.sent(2, 10)

    progress.tick()
    assert not progress.stalled
    progress.tick()
    assert progress.stalled

    progress.accepted(2, full=False)
    progress.tick()
    progress.tick()
    assert not progress.stalled


@pytest.mark.parametrize("seed", range(50))
def test_whatever_arrives_in_whatever_order_match_stays_below_next_and_never_falls(seed: int) -> None:
    random = Random(seed)
    progress = Progress(ReplicaId(2), voter=True, next=random.randint(1, 20))
    for _ in range(300):
        match = progress.match
        index = random.randint(0, 30)
        actions = (
            lambda index=index: progress.accepted(index, full=random.random() < 0.1),
            lambda index=index: progress.refused(index, random.randint(0, 30)),
            lambda: progress.sent(progress.next + random.randint(0, 3), 10),
            progress.probe,
            progress.tick,
            progress.resume,
        )
        random.choice(actions)()

        assert match <= progress.match < progress.next
        assert progress.inflight_bytes == sum(size for _, size in progress.inflight)
