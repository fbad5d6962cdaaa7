"""What has not worked for how long: complained of in the log after a while, and again each minute. Never silent."""

import logging
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
    """The troubles of one consumer, by what does not work, and with which partition."""

    def __init__(self, who: str) -> None:
        self._who = who
        self._troubles: dict[tuple[str, int], _Trouble] = {}

    def fails(self, what: str, partition: int, why: str, now_us: int) -> None:
        """Note that something did not work."""
        trouble = self._troubles.setdefault((what, partition), _Trouble(now_us, now_us + PATIENCE_US, why))
        trouble.why = why

    def works(self, what: str, partition: int, now_us: int) -> None:
        """Note that something works."""
        trouble = self._troubles.pop((what, partition), None)
        if trouble is not None and now_us - trouble.since_us >= PATIENCE_US:
            logger.info("%s: %s partition %d works again", self._who, what, partition)

    def forget(self, partition: int) -> None:
        """Note that nothing is wanted of a partition any more."""
        self._troubles = {key: trouble for key, trouble in self._troubles.items() if key[1] != partition}

    def complain(self, now_us: int) -> None:
        """Log what has failed for too long."""
        for (what, partition), trouble in self._troubles.items():
            if now_us >= trouble.warn_us:
                trouble.warn_us = now_us + WARN_AGAIN_US
                failed_s = (now_us - trouble.since_us) / 1e6
                logger.warning(
                    "%s: %s partition %d has failed for %.0f s, still trying; last: %s",
                    self._who, what, partition, failed_s, trouble.why,
                )  # fmt: skip
