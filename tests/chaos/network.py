"""The network of a run: a namespace for each machine, joined by a bridge, and what goes wrong between them.

Machines are nodes and clients alike, by name. Faults are rules of nftables on what comes in at a machine, so that each
direction can be cut by itself, and a token bucket on what leaves. None of them tracks connections, and none needs a
kernel module beyond those. The harness itself has an address on the bridge, which no rule names: it always sees.

Names carry the ID of the process that made them, and a letter; whoever starts next removes what a dead one has left.
"""

import os
from collections import defaultdict
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from string import ascii_lowercase
from types import TracebackType
from typing import Self

from chaos.commands import CommandError, run, try_all

PREFIX = "rwc"  # of namespaces, the bridge and its ends: an interface's name has 15 characters at most
NAMESPACES = Path("/run/netns")
TABLE = "chaos"
SUBNETS = 250  # 10.213.0.0/24 and the following
SUBNETS_APART = 37
HARNESS = 254  # the last number of the harness's own address
SLOW_RATE = "256kbit"  # a few appends a second beside heartbeats
SLOW_BURST = "16kb"
SLOW_LATENCY = "300ms"
LOSS_PERCENT = 20

Rule = str
_numbers = count()  # of the networks of this process


class Network:
    """Machines by name, each with a namespace and an address. A context manager: it leaves nothing behind."""

    def __init__(self, machines: Iterable[str]) -> None:
        self._machines = list(machines)
        number = next(_numbers)
        self._id = f"{os.getpid()}{ascii_lowercase[number % len(ascii_lowercase)]}"
        self._octet = (os.getpid() + SUBNETS_APART * number) % SUBNETS
        self._rules: defaultdict[str, list[Rule]] = defaultdict(list)  # by machine

    def address(self, machine: str) -> str:
        """Return a machine's address."""
        return f"10.213.{self._octet}.{self._machines.index(machine) + 1}"

    def command(self, machine: str) -> list[str]:
        """Return what a command is to be appended to, so that it runs on a machine. The process stays the same."""
        return ["/usr/bin/nsenter", f"--net={NAMESPACES / self._namespace(machine)}", "--"]

    # Making and removing.

    def __enter__(self) -> Self:
        remove_leftovers()
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _namespace(self, machine: str) -> str:
        return f"{PREFIX}{self._id}-{machine}"

    def _end(self, machine: str) -> str:
        return f"{PREFIX}{self._id}{machine}"  # of the cable, at the bridge

    @property
    def _bridge(self) -> str:
        return f"{PREFIX}{self._id}br"

    def _make(self) -> None:
        run("ip", "link", "add", self._bridge, "type", "bridge")
        run("ip", "addr", "add", f"10.213.{self._octet}.{HARNESS}/24", "dev", self._bridge)
        run("ip", "link", "set", self._bridge, "up")
        for machine in self._machines:
            space, end = self._namespace(machine), self._end(machine)
            run("ip", "netns", "add", space)
            run("ip", "link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", end, "master", self._bridge, "up")
            run("ip", "-n", space, "addr", "add", f"{self.address(machine)}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")
            self._write(machine)

    def _remove(self) -> None:
        try_all(
            *(["ip", "netns", "del", self._namespace(machine)] for machine in self._machines),
            *(["ip", "link", "del", self._end(machine)] for machine in self._machines),
            ["ip", "link", "del", self._bridge],
        )

    # Faults. What one adds, that one takes away: several may hold at once.

    def add(self, machine: str, rules: Iterable[Rule]) -> None:
        """Let rules hold for what comes in at a machine."""
        self._rules[machine].extend(rules)
        self._write(machine)

    def take(self, machine: str, rules: Iterable[Rule]) -> None:
        """Let rules hold no more."""
        for rule in rules:
            self._rules[machine].remove(rule)
        self._write(machine)

    def _write(self, machine: str) -> None:
        """Replace a machine's rules as a whole."""
        listed = "\n".join(self._rules[machine])
        run(
            *("ip", "netns", "exec", self._namespace(machine), "nft", "-f", "-"),
            given=f"""
            add table inet {TABLE}
            delete table inet {TABLE}
            table inet {TABLE} {{
                chain arriving {{
                    type filter hook input priority 0; policy accept;
                    {listed}
                }}
            }}
            """,
        )

    def slow_down(self, machine: str) -> None:
        """Let what leaves a machine trickle."""
        run(
            *("ip", "netns", "exec", self._namespace(machine), "tc", "qdisc", "add", "dev", "eth0", "root"),
            *("tbf", "rate", SLOW_RATE, "burst", SLOW_BURST, "latency", SLOW_LATENCY),
        )

    def speed_up(self, machine: str) -> None:
        """End what `slow_down` did."""
        run("ip", "netns", "exec", self._namespace(machine), "tc", "qdisc", "del", "dev", "eth0", "root")

    # Rules.

    def dropped(self, senders: Iterable[str]) -> list[Rule]:
        """Return rules that drop what comes from others."""
        return [f"ip saddr {self.address(sender)} drop" for sender in senders]

    def lost(self, senders: Iterable[str]) -> list[Rule]:
        """Return rules that lose every fifth packet from others."""
        return [f"ip saddr {self.address(sender)} numgen random mod 100 < {LOSS_PERCENT} drop" for sender in senders]

    def reset(self, senders: Iterable[str]) -> list[Rule]:
        """Return rules that answer whatever comes over TCP from others by resetting the connection."""
        return [f"ip saddr {self.address(sender)} meta l4proto tcp reject with tcp reset" for sender in senders]


def remove_leftovers() -> None:
    """Remove what runs have left whose process is gone."""
    for path in NAMESPACES.glob(f"{PREFIX}*-*"):
        if is_dead(path.name.removeprefix(PREFIX).split("-")[0].rstrip(ascii_lowercase)):
            try_all(["ip", "netns", "del", path.name])
    for path in Path("/sys/class/net").glob(f"{PREFIX}*br"):
        if is_dead(path.name.removeprefix(PREFIX).rstrip(ascii_lowercase)):
            try_all(["ip", "link", "del", path.name])


def is_dead(pid: str) -> bool:
    """Return whether no process has an ID that stands in a name; where none stands there, it is not ours."""
    return pid.isdecimal() and not Path(f"/proc/{pid}").exists()


def why_unavailable() -> str:
    """Return why there can be no namespaces, joined and filtered, on this machine; nothing if there can be."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        with Network(["try1", "try2"]) as network:
            network.add("try1", [*network.dropped(["try2"]), *network.lost(["try2"]), *network.reset(["try2"])])
            network.slow_down("try2")
    except CommandError as error:
        return str(error)
    return ""
