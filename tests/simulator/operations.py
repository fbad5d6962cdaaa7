"""What clients do in a run: drawn before it begins, spread over its time with bursts, past the last fault.

Kinds and their arguments:

- `append`, `batch`, `multi`: one append of one event, of several, to several streams. `parts`: stream, number of events
  and what it expects (`EXPECTATIONS`); `again`: how often the application repeats it, with the same IDs and the same
  expectation, where its outcome stays unknown.
  `padding_bytes` make events larger.
- `submit`: `appends` appends of one event to one stream, all under way at once.
- `read`, `version`: `consistency`; `token`: whose progress it waits for (`TOKENS`). Of reads also `after`, `limit` and
  `reverse`; a negative `after` counts back from the version that the client believes in.
- `pinned`: a `read` or `version` by hand, sent to a node that may think it still leads, which `choice` picks, or to the
  one that `node` names. With `wait_ms` it waits so long at most for the next election, and is sent amid that.
- `read_all`: `consistency` and `token` as above, `limit`, `reverse` in the ordered context; `types` and `prefix`, the
  filter; `after`: where it begins (`BEGINNINGS`), at the checkpoint that `choice` picks of those kept by anyone.
  `chunk_events`: how many it asks for at a time.
- `subscribe`: filter and `after` likewise. The consumer visits its inbox `visit_ms` after something has come, or has
  been left, and takes `gulp` events; it keeps its checkpoint at each `keep_every`th visit. `lives`: for how many ms the
  subscription is open before it is closed, and again from the checkpoint that was kept `rest_ms` later; None: to the
  end. `window_bytes` narrows the windows of its feeds, 0 does not.
- `pause` and `restart` of the client's machine.

All but the last two name the context, which is "default" or "ordered", and carry `timeout_ms`.
"""

from random import Random
from typing import Any

from simulator.plan import Operation, Shape

Drawn = tuple[int, int, str, dict[str, Any]]  # when, by whom, what kind, and its arguments

ORDERED_CONTEXT = "in-order"
EXPECTATIONS = ("any", "known", "none", "behind", "ahead")
TOKENS = ("none", "own", "everybody")
BEGINNINGS = ("start", "now", "kept")

OPERATIONS_MIN = 310
OPERATIONS_MAX = 420
BURSTS = 6
BURST_WIDTH_US = 150_000
TAIL_US = 4_000_000  # operations go on for so long after the last fault
FIRST_US = 300_000  # clients are not ready before: nothing is founded yet

KINDS = {
    "append": 38,
    "batch": 9,
    "multi": 9,
    "submit": 7,
    "read": 14,
    "version": 8,
    "pinned": 11,
    "read_all": 4,
    "subscribe": 1.5,
    "pause": 1.2,
    "restart": 1.2,
}
HOT_STREAMS = {
    "default": ("account-1", "account-2", "account-3", "account-4"),
    "ordered": ("ledger-1", "ledger-2"),
}
TAGGED_STREAMS = {  # of each row any may be appended to together
    "default": (("{cart-1}items", "{cart-1}log"), ("{cart-2}items", "{cart-2}log", "{cart-2}owner")),
    "ordered": (("ledger-1", "ledger-2", "audit"), ("ledger-1", "audit")),
}
RARE_STREAMS = 12
RARE_CHANCE = 0.12
ORDERED_CHANCE = 0.25
PADDING_BYTES = (0, 0, 0, 200, 3_000)
ELECTION_WAIT_MS = 3_000
SUBSCRIBERS_MIN = 2  # of each run, to everything from early on to its end; the first to the ordered context
SUBSCRIBED_BY_US = 6_000_000
TYPES = (None, None, None, None, ["Happened"], ["Noted"], ["Counted", "Noted"], ["Never"])
PREFIXES = {"default": ("", "", "", "account-", "{cart-1}", "rare-"), "ordered": ("", "", "", "ledger-", "audit")}
CHUNKS_EVENTS = (3, 20, 1_000)
VISITS_MS = (0, 5, 50, 50, 400)
GULPS = (1, 7, 50, 50, 1_000)
WINDOWS_BYTES = (0, 0, 2_000, 10_000)
FOLLOWS_US = (10_000, 1_500_000)
TIMEOUTS_MS = (150, 400, 1_000, 3_000, 8_000)
TIMEOUT_WEIGHTS = (1, 2, 4, 5, 3)


def draw_operations(random: Random, shape: Shape) -> list[Operation]:
    """Return a run's operations in the order of their times."""
    count = random.randint(OPERATIONS_MIN, OPERATIONS_MAX)
    end_us = shape.duration_us + TAIL_US
    bursts_us = [random.randint(FIRST_US, end_us) for _ in range(BURSTS)]
    drawn: list[Drawn] = []
    for _ in range(count):
        if random.random() < 0.4:
            at_us = random.choice(bursts_us) + int(random.expovariate(1 / BURST_WIDTH_US))
        else:
            at_us = random.randint(FIRST_US, end_us)
        kind = random.choices(tuple(KINDS), tuple(KINDS.values()))[0]
        drawn.append((at_us, random.randrange(shape.clients), kind, _ARGUMENTS[kind](random)))
    for number in range(SUBSCRIBERS_MIN):
        everything = {"context": "default" if number else "ordered", "types": None, "prefix": "", "lives": [None]}
        arguments = _subscribe(random) | everything
        at_us = random.randint(FIRST_US, SUBSCRIBED_BY_US)
        drawn.append((at_us, random.randrange(shape.clients), "subscribe", arguments))
    drawn += [_follow(random, shape, *item) for item in drawn if _is_ahead(item[3]) and random.random() < 0.8]
    drawn.sort(key=lambda item: item[0])
    return [Operation(number, *item) for number, item in enumerate(drawn, 1)]


def _is_ahead(arguments: dict[str, Any]) -> bool:
    return any(mode == "ahead" for _, _, mode in arguments.get("parts", ()))


def _follow(random: Random, shape: Shape, at_us: int, client: int, _: str, ahead: dict[str, Any]) -> Drawn:
    """Return the append that makes up a little later for what another one was ahead of its time."""
    part = [ahead["parts"][0][0], 1, "any"]
    other = (client + random.randrange(1, shape.clients)) % shape.clients
    at_us += random.randint(*FOLLOWS_US)
    return at_us, other, "append", ahead | {"parts": [part], "appends": 1, "timeout_ms": _timeout_ms(random)}


def streams_of(operation: Operation) -> list[str]:
    """Return the streams that an operation names."""
    arguments = operation.arguments
    return [part[0] for part in arguments.get("parts", ())] or [
        arguments[key] for key in ("stream",) if key in arguments
    ]


def _append(random: Random) -> dict[str, Any]:
    context = _context(random)
    part = [_stream(random, context), 1, random.choices(EXPECTATIONS, (5, 8, 1, 2, 5))[0]]
    return _write(random, context) | {"parts": [part]}


def _batch(random: Random) -> dict[str, Any]:
    context = _context(random)
    part = [_stream(random, context), random.randint(2, 6), random.choice(("any", "known", "known", "behind"))]
    return _write(random, context) | {"parts": [part]}


def _multi(random: Random) -> dict[str, Any]:
    context = _context(random)
    streams = random.choice(TAGGED_STREAMS[context])
    chosen = random.sample(streams, random.randint(2, len(streams)))
    mode = random.choice(("any", "known", "known", "mixed"))
    modes = ("any", "known") if mode == "mixed" else (mode,)
    parts = [[stream, random.randint(1, 3), random.choice(modes)] for stream in chosen]
    if random.random() < 0.15:  # the same stream twice in one append
        parts.append([chosen[0], 1, "any"])
    return _write(random, context) | {"parts": parts}


def _submit(random: Random) -> dict[str, Any]:
    context = _context(random)
    appends = random.randint(3, 12)
    return _write(random, context) | {
        "parts": [[_stream(random, context), 1, random.choice(("any", "any", "known", "ahead"))]],
        "appends": appends,
    }


def _read(random: Random) -> dict[str, Any]:
    return _version(random) | {
        "after": random.choice((0, 0, -1, -3, -10)),
        "limit": random.choice((None, None, 1, 2, 5)),
        "reverse": random.random() < 0.25,
    }


def _version(random: Random) -> dict[str, Any]:
    context = _context(random)
    consistency = random.choice(("linearizable", "linearizable", "any"))
    return {
        "context": context,
        "stream": _stream(random, context),
        "consistency": consistency,
        "token": random.choice(TOKENS if consistency == "any" else ("none", "none", "own")),
        "timeout_ms": _timeout_ms(random),
    }


def _pinned(random: Random) -> dict[str, Any]:
    context = _context(random)
    return {
        "context": context,
        "stream": _stream(random, context),
        "consistency": "linearizable",
        "what": random.choice(("read", "version")),
        "choice": random.getrandbits(32),
        "wait_ms": random.choice((0, 0, ELECTION_WAIT_MS)),
        "timeout_ms": _timeout_ms(random),
    }


def _read_all(random: Random) -> dict[str, Any]:
    asked = _version(random)
    del asked["stream"]
    context = asked["context"]
    return asked | {
        "after": random.choice(("start", "kept", "kept")),
        "choice": random.getrandbits(32),
        "limit": random.choice((None, None, None, 1, 5, 40)),
        "chunk_events": random.choice(CHUNKS_EVENTS),
        "reverse": context == "ordered" and random.random() < 0.5,
        "types": random.choice(TYPES),
        "prefix": random.choice(PREFIXES[context]),
    }


def _subscribe(random: Random) -> dict[str, Any]:
    context = _context(random)
    return {
        "context": context,
        "after": random.choice(BEGINNINGS),
        "choice": random.getrandbits(32),
        "types": random.choice(TYPES),
        "prefix": random.choice(PREFIXES[context]),
        "visit_ms": random.choice(VISITS_MS),
        "gulp": random.choice(GULPS),
        "keep_every": random.choice((1, 1, 3, 10)),
        "lives": [random.choice((300, 1_500, 4_000)) for _ in range(random.randint(1, 3))],
        "rest_ms": random.choice((10, 500, 2_000)),
        "window_bytes": random.choice(WINDOWS_BYTES),
        "timeout_ms": _timeout_ms(random),
    }


def _pause(random: Random) -> dict[str, Any]:
    return {"for_ms": random.choice((50, 300, 1_500, 4_000))}


def _restart(_: Random) -> dict[str, Any]:
    return {}


_ARGUMENTS = {
    "append": _append,
    "batch": _batch,
    "multi": _multi,
    "submit": _submit,
    "read": _read,
    "version": _version,
    "pinned": _pinned,
    "read_all": _read_all,
    "subscribe": _subscribe,
    "pause": _pause,
    "restart": _restart,
}


def _write(random: Random, context: str) -> dict[str, Any]:
    again = random.choice((0, 0, 1, 2))
    return {
        "context": context,
        "again": again,
        "padding_bytes": random.choice(PADDING_BYTES),
        "timeout_ms": _timeout_ms(random),
    }


def _context(random: Random) -> str:
    return "ordered" if random.random() < ORDERED_CHANCE else "default"


def _stream(random: Random, context: str) -> str:
    if random.random() < RARE_CHANCE:
        return f"rare-{random.randint(1, RARE_STREAMS)}"
    tagged = TAGGED_STREAMS[context]
    return random.choice((*HOT_STREAMS[context], *tagged[0]))


def _timeout_ms(random: Random) -> int:
    return random.choices(TIMEOUTS_MS, TIMEOUT_WEIGHTS)[0]
