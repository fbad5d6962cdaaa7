"""When troubles are complained of, and when not."""

import logging

import pytest

from rewind.patience import PATIENCE_US, WARN_AGAIN_US, Patience


@pytest.fixture
def patience(caplog: pytest.LogCaptureFixture) -> Patience:
    caplog.set_level(logging.INFO)
    return Patience("group 'mailer'")


def test_what_fails_for_long_is_complained_of_and_again_each_minute(
    patience: Patience, caplog: pytest.LogCaptureFixture
) -> None:
    patience.fails("settling", 3, "no leader", 0)
    patience.fails("settling", 3, "no answer", 5_000_000)

    counts = []
    for now_us in (PATIENCE_US - 1, PATIENCE_US, PATIENCE_US + 1, PATIENCE_US + WARN_AGAIN_US):
        patience.complain(now_us)
        counts.append(len(caplog.messages))

    assert counts == [0, 1, 1, 2]
    assert caplog.messages[0] == (
        "group 'mailer': settling partition 3 has failed for 10 s, still trying; last: no answer"
    )


def test_what_works_again_is_told_only_if_it_failed_for_long(
    patience: Patience, caplog: pytest.LogCaptureFixture
) -> None:
    patience.fails("settling", 3, "no leader", 0)
    patience.works("settling", 3, PATIENCE_US - 1)
    patience.fails("settling", 3, "no leader", 0)
    patience.works("settling", 3, PATIENCE_US)
    patience.complain(10 * PATIENCE_US)

    assert caplog.messages == ["group 'mailer': settling partition 3 works again"]


def test_what_is_not_wanted_any_more_is_forgotten(patience: Patience, caplog: pytest.LogCaptureFixture) -> None:
    patience.fails("settling", 3, "no leader", 0)
    patience.fails("claiming", 3, "no leader", 0)
    patience.fails("claiming", 13, "no leader", 0)

    patience.forget(3)
    patience.complain(2 * PATIENCE_US)

    assert [each.split(" has")[0] for each in caplog.messages] == ["group 'mailer': claiming partition 13"]
