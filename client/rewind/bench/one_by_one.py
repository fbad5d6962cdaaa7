"""What a client process appends through the blocking client: one append after the other, as a plain program does.

An event loop beside it would be one more that wants a turn at the processor, so there is none: the clock, the counting
and what ends a run are the driver's, written once more without waiting for futures.
"""

import time

from rewind.bench.appending import Appends
from rewind.bench.driver import LATE_MAX_S, Account
from rewind.bench.tasks import AppendTask
from rewind.blocking import Store
from rewind.errors import RewindError


def append_one_by_one(store: Store, task: AppendTask) -> tuple[Account, Appends]:
    """Do the task."""
    pace = task.pace
    account = Account(pace)
    appends = Appends(task.events)
    _sleep_until(pace.begin_s)
    account.began_s = time.monotonic()
    until_s = pace.begin_s + pace.seconds
    for number in range(pace.operations):
        due_s = time.monotonic() if pace.rate is None else pace.begin_s + number / pace.rate
        if due_s >= until_s:
            break
        _sleep_until(due_s)
        if pace.rate is not None and time.monotonic() >= until_s + LATE_MAX_S:
            account.not_begun = account.left(number)
            break
        stream, expected = appends.next(number)
        try:
            result = store.append(stream, appends.batch, expected)
        except RewindError as error:
            appends.failed(stream)
            account.failed(error)
        else:
            account.ended("append", len(appends.batch), due_s, time.monotonic())
            appends.acknowledged(stream, result)
        account.check()
    return account, appends


def _sleep_until(time_s: float) -> None:
    delay_s = time_s - time.monotonic()
    if delay_s > 0:
        time.sleep(delay_s)
