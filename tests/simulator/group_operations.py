"""What members of consumer groups do in a run, and their operators: drawn before it begins, in some of the seeds only.

A run has one group, or two. All members of a group want the same: `context`, `group`, `after` (where it begins if it is
new), `types`, `prefix`, `max_attempts`. Kinds, and what their arguments tell besides:

- `member`: one member, through all its `lives`. A life is for how many ms, and how it ends, "close" or "kill"; None: to
  the end of the run. Between two it rests for `rest_ms`. `hands`: how many events it works on at a time; `work_ms`: how
  long on each. `fates`: how many events in 10,000 are flaky, hopeless, bad, slow, deadly (`simulator.members`).
- `operate`: `what`: "replay" or "discard" all that is parked, or "reset" to `share` hundredths of what is known to be
  there.
"""

from collections.abc import Iterable
from random import Random
from typing import Any

from simulator.operations import FIRST_US, PREFIXES, TYPES
from simulator.plan import Operation, Shape

GROUP_KINDS = ("member", "operate")
GROUPS_CHANCE = 0.4
SECOND_CHANCE = 0.2
ORDERED_CHANCE = 0.3
NAMES = ("mailer", "billing")
MEMBERS = (2, 3, 3, 4)
JOINED_BY_US = 5_000_000
LONG_PAUSES_MS = (6_000, 9_000)  # beyond the lease of a claim
PAUSE_CHANCE = 0.8
REPLAY_CHANCE = 0.6
DISCARD_CHANCE = 0.2
RESET_CHANCE = 0.25
TIMEOUT_MS = 5_000

Drawn = tuple[int, int, str, dict[str, Any]]


def has_groups(operations: Iterable[Operation]) -> bool:
    """Return whether a plan has consumer groups."""
    return any(operation.kind in GROUP_KINDS for operation in operations)


def draw_group_operations(random: Random, shape: Shape, after: int) -> list[Operation]:
    """Return what a run does with groups, which may be nothing; operations are numbered from `after` on."""
    if random.random() >= GROUPS_CHANCE:
        return []
    drawn: list[Drawn] = []
    for name in NAMES[: 1 + (random.random() < SECOND_CHANCE)]:
        drawn += _draw_group(random, shape, name)
    return [Operation(number, *each) for number, each in enumerate(drawn, after + 1)]


def _draw_group(random: Random, shape: Shape, name: str) -> list[Drawn]:
    context = "ordered" if random.random() < ORDERED_CHANCE else "default"
    group = {"context": context, "group": name, "timeout_ms": TIMEOUT_MS}
    wants = {
        "after": random.choice(("start", "start", "now")),
        "types": random.choice((None, None, None, *TYPES[:-1])),
        "prefix": random.choice(("", "", *PREFIXES[context])),
        "max_attempts": random.choice((2, 3, 3, 5)),
        "fates": _fates(random),
    }
    drawn: list[Drawn] = []
    first = random.randrange(shape.clients)
    for number in range(random.choice(MEMBERS)):
        member = group | wants | _member(random, to_the_end=number == 0)
        latest_us = JOINED_BY_US if number < 2 else shape.duration_us * 2 // 3
        client = (first + number) % shape.clients
        drawn.append((random.randint(FIRST_US, latest_us), client, "member", member))
    for what, chance in (("replay", REPLAY_CHANCE), ("discard", DISCARD_CHANCE), ("reset", RESET_CHANCE)):
        if random.random() < chance:
            at_us = random.randint(shape.duration_us // 3, shape.duration_us)
            operate = group | {"what": what, "share": random.choice((0, 50, 100))}
            drawn.append((at_us, random.randrange(shape.clients), "operate", operate))
    if random.random() < PAUSE_CHANCE:
        at_us = random.randint(JOINED_BY_US, shape.duration_us * 2 // 3)
        drawn.append((at_us, first, "pause", {"for_ms": random.choice(LONG_PAUSES_MS)}))
    return drawn


def _fates(random: Random) -> dict[str, int]:
    deadly = random.choice((0, 0, 30))
    return {"flaky": random.choice((0, 500, 1_500)), "hopeless": 100, "bad": 100, "slow": 50, "deadly": deadly}


def _member(random: Random, *, to_the_end: bool) -> dict[str, Any]:
    lives: list[Any] = [
        [random.choice((1_000, 4_000, 8_000)), random.choice(("close", "kill"))] for _ in range(random.randint(1, 2))
    ]
    return {
        "lives": [None] if to_the_end else random.choice((lives, lives, [*lives, None])),
        "rest_ms": random.choice((10, 500, 2_000)),
        "hands": random.choice((1, 1, 3, 20)),
        "work_ms": random.choice((0, 20, 150, 600)),
    }
