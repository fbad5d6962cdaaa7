"""A machine's clocks, made from the true time: a monotonic one that drifts, and a wall clock that may jump as well.

Everything is in whole microseconds and rates in millionths, so that no rounding differs between machines.
"""

from random import Random

MILLION = 1_000_000
DRIFT_PPM_MAX = 100_000  # a tenth too fast or too slow: far worse than any quartz
WALL_DRIFT_PPM_MAX = 500
WALL_SKEW_US_MAX = 2 * MILLION
UPTIME_US_MAX = 100 * 86_400 * MILLION
EPOCH_US = 1_750_000_000 * MILLION


class MachineClock:
    """The clocks of one machine. Every method takes the true time."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._natural_ppm = MILLION + random.randint(-DRIFT_PPM_MAX, DRIFT_PPM_MAX)
        self._wall_ppm = MILLION + random.randint(-WALL_DRIFT_PPM_MAX, WALL_DRIFT_PPM_MAX)
        self._wall_us = EPOCH_US + random.randint(-WALL_SKEW_US_MAX, WALL_SKEW_US_MAX)
        self.jump_us = 0  # what the wall clock is off by, beyond its drift
        self.reboot(0)

    def reboot(self, true_us: int) -> None:
        """Let the monotonic clock begin anew, as it does when a machine starts."""
        self._ppm = self._natural_ppm
        self._since_us = true_us
        self._shown_us = self._random.randrange(UPTIME_US_MAX)

    def monotonic_us(self, true_us: int) -> int:
        """Return what the monotonic clock shows."""
        return self._shown_us + (true_us - self._since_us) * self._ppm // MILLION

    def wall_us(self, true_us: int) -> int:
        """Return what the wall clock shows."""
        return self._wall_us + true_us * self._wall_ppm // MILLION + self.jump_us

    def true_us(self, monotonic_us: int) -> int:
        """Return the first true time at which the monotonic clock shows this or more, if it goes on as it does."""
        return self._since_us - (self._shown_us - monotonic_us) * MILLION // self._ppm + 1

    def set_speed(self, factor: int, true_us: int) -> None:
        """Let the monotonic clock go so many times as fast as it naturally does from now on."""
        self._shown_us = self.monotonic_us(true_us)
        self._since_us = true_us
        self._ppm = self._natural_ppm * factor
