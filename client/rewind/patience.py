"""What has not worked for how long: complained of in the log after a while, and again each minute. Never silent."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

PATIENCE_US = 10_000_000  # an election, a restart, a member that is waited for take less
WARN_AGAIN_US = 60_000_000

logger = logging.getLogger("rewind.client")


@dataclass(slots=True)
class _Trouble:
    since_us: int
    warn_us: int
    why: str


class Patience:
    """The troubles of one consumer, by what does not work."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._troubles: dict[str, _Trouble] = {}

    def fails(self, what: str, why: str, now_us: int) -> None:
        """Note that something did not work."""
        trouble = self._troubles.setdefault(what, _Trouble(now_us, now_us + PATIENCE_US, why))
        trouble.why = why

    def works(self, what: str, now_us: int) -> None:
        """Note that something works, or is not wanted any more."""
        trouble = self._troubles.pop(what, None)
        if trouble is not None and now_us - trouble.since_us >= PATIENCE_US:
            logger.info("%s: %s works again", self._who, what)

    def complain(self, now_us: int) -> None:
        """Log what has failed for too long."""
        for what, trouble in self._due(now_us):
            trouble.warn_us = now_us + WARN_AGAIN_US
            failed_s = (now_us - trouble.since_us) / 1e6
            logger.warning(
                "%s: %s has failed for %.0f s, still trying; last: %s", self._who, what, failed_s, trouble.why
            )

    def _due(self, now_us: int) -> Iterator[tuple[str, _Trouble]]:
        return ((what, trouble) for what, trouble in self._troubles.items() if now_us >= trouble.warn_us)
