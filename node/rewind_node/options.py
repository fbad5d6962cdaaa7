"""The options of `rewind-node run`: one table, from which flags, variables and keys of the configuration file follow.

An option `data_dir` is the flag `--data-dir`, the variable `REWIND_DATA_DIR` and the TOML key `data-dir` (`data_dir` is
taken too). A flag beats a variable, a variable beats the file, the file beats the default. Everything is checked here,
before a socket is opened or a file touched; every mistake is a `UsageError` of one line that names where it came from.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rewind_cluster.names import CONTEXT_NAME, PARTITIONS_MAX
from rewind_node import addresses
from rewind_node.exits import UsageError

REPLICATION_FACTOR_MAX = 7  # more copies cost every append and hardly ever pay
LABEL_VALUE = re.compile(r"[^\x00-\x1f\x7f-\x9f]{1,255}\Z")
LABELS_MAX = 32  # all of them are in every node's memory and in the map
ELECTION_TIMEOUT_MS_RANGE = (50, 60_000)
HEARTBEAT_MS_RANGE = (5, 30_000)
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("text", "json")
TRUE_WORDS = ("1", "true", "yes", "on")
FALSE_WORDS = ("0", "false", "no", "off")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """How one node runs. Addresses are canonical `host:port`; what is not advertised otherwise is where it listens."""

    name: str
    data_dir: Path
    seeds: tuple[str, ...]
    listen: str = "127.0.0.1:7070"
    peer_listen: str = "127.0.0.1:7071"
    http_listen: str = "127.0.0.1:7072"
    advertise: str = ""
    peer_advertise: str = ""
    http_advertise: str = ""
    partitions: int = 16
    replication_factor: int = 3
    labels: dict[str, str] = field(default_factory=dict)
    election_timeout_ms: int = 1000
    heartbeat_ms: int = 200
    log_level: str = "info"
    log_format: str = "text"
    insecure: bool = False

    def __post_init__(self) -> None:
        for listened, advertised in LISTENED_AND_ADVERTISED:
            if not getattr(self, advertised):
                object.__setattr__(self, advertised, getattr(self, listened))

    @property
    def beyond_loopback(self) -> bool:
        """Whether programs on other machines can reach one of the addresses."""
        return not all(addresses.is_loopback(addresses.split(getattr(self, name))[0]) for name in LISTENED)


LISTENED_AND_ADVERTISED = (
    ("listen", "advertise"),
    ("peer_listen", "peer_advertise"),
    ("http_listen", "http_advertise"),
)
LISTENED = tuple(listened for listened, _ in LISTENED_AND_ADVERTISED)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a text")  # noqa: TRY004 - one kind of error for every wrong value
    return value


def _name(value: object) -> str:
    if not CONTEXT_NAME.match(text := _text(value)):
        raise ValueError(f"{text!r} is not 1 to 64 characters of A-Z a-z 0-9 . _ -")
    return text


def _path(value: object) -> Path:
    if not (text := _text(value)) or "\0" in text:
        raise ValueError(f"{text!r} is no path")
    return Path(text)


def _listening(value: object) -> str:
    return addresses.listening(_text(value))


def _dialled(value: object) -> str:
    return addresses.dialled(_text(value))


def _seeds(value: object) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else _text(value).split(",")
    seeds = [_dialled(text.strip() if isinstance(text, str) else text) for text in texts if text != ""]
    if not seeds:
        raise ValueError("at least one seed is needed, the peer address HOST:PORT of a node")
    if twice := next((seed for seed in seeds if seeds.count(seed) > 1), None):
        raise ValueError(f"{twice} is named twice")
    return tuple(sorted(seeds))


def _labels(value: object) -> dict[str, str]:
    if isinstance(value, dict):
        pairs = [(key, "=", text) for key, text in value.items()]
    else:
        texts = value if isinstance(value, list | tuple) else _text(value).split(",")
        pairs = [_text(text).strip().partition("=") for text in texts]
    labels: dict[str, str] = {}
    for key, equals, text in pairs:
        if not equals or not CONTEXT_NAME.match(key) or not LABEL_VALUE.match(_text(text)):
            raise ValueError(f"{key + equals + str(text)!r} is not KEY=VALUE, for example zone=west")
        if key in labels:
            raise ValueError(f"the label {key!r} is given twice")
        labels[key] = text
    if len(labels) > LABELS_MAX:
        raise ValueError(f"{len(labels)} labels are more than {LABELS_MAX}")
    return labels


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < len(str(high)) + 3:
            value = int(value)
        if type(value) is not int or not low <= value <= high:
            raise ValueError(f"{value!r} is not a whole number from {low} to {high}")
        return value

    return parse


def _replication_factor(value: object) -> int:
    number = _whole(1, REPLICATION_FACTOR_MAX)(value)
    if number % 2 == 0:
        raise ValueError(f"{number} is even; {number} copies survive no more failures than {number - 1}, so take that")
    return number


def _one_of(words: tuple[str, ...]) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in words:
            raise ValueError(f"{value!r} is not one of {', '.join(words)}")
        return str(value)

    return parse


def _switch(value: object) -> bool:
    if isinstance(value, str) and value.lower() in TRUE_WORDS + FALSE_WORDS:
        return value.lower() in TRUE_WORDS
    if not isinstance(value, bool):
        raise ValueError(f"{value!r} is neither true nor false")  # noqa: TRY004 - one kind of error for every wrong value
    return value


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table. `field` is what it sets in `NodeOptions`; `parse` raises `ValueError`."""

    name: str
    parse: Callable[[object], Any]
    metavar: str
    help: str
    field: str

    @property
    def flag(self) -> str:
        """How the command line spells it."""
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        """How the environment spells it."""
        return "REWIND_" + self.name.upper()


def _option(name: str, parse: Callable[[object], Any], metavar: str, text: str, sets: str = "") -> Option:
    return Option(name, parse, metavar, text, sets or name)


OPTIONS = (
    _option("name", _name, "NAME", "This node's name, unlike any other's in the cluster."),
    _option("data_dir", _path, "DIR", "Where the data is kept."),
    _option("seeds", _seeds, "HOST:PORT,…", "Peer addresses of the founding nodes, the same on each of them."),
    _option("listen", _listening, "HOST:PORT", "Where clients are served."),
    _option("peer_listen", _listening, "HOST:PORT", "Where the other nodes are served."),
    _option("http_listen", _listening, "HOST:PORT", "Where health, metrics and the dashboard are served."),
    _option("advertise", _dialled, "HOST:PORT", "How clients reach it. [default: where it listens]"),
    _option("peer_advertise", _dialled, "HOST:PORT", "How other nodes reach it. [default: where it listens]"),
    _option("http_advertise", _dialled, "HOST:PORT", "How HTTP reaches it. [default: where it listens]"),
    _option("partitions", _whole(1, PARTITIONS_MAX), "N", "Partitions of a cluster that is founded now."),
    _option("replication_factor", _replication_factor, "N", "Copies of each partition, as far as there are nodes."),
    _option("label", _labels, "KEY=VALUE", "Where the node stands, for example zone=west; repeatable.", "labels"),
    _option(
        "election_timeout_ms", _whole(*ELECTION_TIMEOUT_MS_RANGE), "MS", "Silence after which a leader is replaced."
    ),
    _option("heartbeat_ms", _whole(*HEARTBEAT_MS_RANGE), "MS", "How often a leader says that it is there."),
    _option("log_level", _one_of(LOG_LEVELS), "LEVEL", f"The least that is logged: {', '.join(LOG_LEVELS)}."),
    _option("log_format", _one_of(LOG_FORMATS), "FORMAT", f"How it is logged: {' or '.join(LOG_FORMATS)}."),
    _option("insecure", _switch, "", "Allow listening beyond loopback, where nothing is encrypted or authenticated."),
)
DEFAULTS = {row.name: row.default for row in fields(NodeOptions)}
REQUIRED = ("name", "data_dir", "seeds")
CONFIG_VARIABLE = "REWIND_CONFIG"


def resolve(flags: Mapping[str, object], environment: Mapping[str, str]) -> NodeOptions:
    """Return the options from flags by name (None or empty: not given), variables, and the file that `config` names."""
    config_path = flags.get("config") or environment.get(CONFIG_VARIABLE)
    config = _read_config(Path(str(config_path))) if config_path else {}
    values: dict[str, Any] = {}
    for option in OPTIONS:
        for source, given in (
            (option.flag, flags.get(option.name)),
            (option.variable, environment.get(option.variable)),
            (f"{config_path}: {_key(option.name)}", config.get(option.name)),
        ):
            # A variable that is set to nothing is how container files say "not set".
            if given is not None and given not in ("", ()):
                values[option.field] = _parse(option, source, given)
                break
        else:
            if option.name in REQUIRED:
                raise UsageError(
                    f"{option.flag} is missing (or {option.variable}, or {_key(option.name)!r} in --config)"
                )
    options = NodeOptions(**values)
    _check_together(options, values)
    return options


def _key(name: str) -> str:
    """Return what an option is called in a file."""
    return name.replace("_", "-")


def _parse(option: Option, source: str, given: object) -> Any:
    try:
        return option.parse(given)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from None


def _read_config(path: Path) -> dict[str, object]:
    try:
        config = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"--config: {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, numbers too long or arrays too deep to read
        raise UsageError(f"{path} is not TOML: {error}") from None
    known = [option.name for option in OPTIONS]
    values: dict[str, object] = {}
    for key, value in config.items():
        name = key.replace("-", "_")
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {_key(near[0])!r}?" if near else ""
            raise UsageError(f"{path}: unknown key {key!r}{hint}")
        if name in values:
            raise UsageError(f"{path}: {key!r} is given twice, with - and with _")
        values[name] = value
    return values


def _check_together(options: NodeOptions, given: Mapping[str, object]) -> None:
    for listened, advertised in LISTENED_AND_ADVERTISED:
        flag = "--" + advertised.replace("_", "-")
        host, _ = addresses.split(getattr(options, listened))
        if addresses.is_wildcard(host) and advertised not in given:
            raise UsageError(f"{flag} is missing: {getattr(options, listened)} is a wildcard, which nobody can dial")
    listened_on = [getattr(options, name) for name in LISTENED]
    if len(set(listened_on)) < len(listened_on):
        raise UsageError(f"--listen, --peer-listen and --http-listen need three different addresses, not {listened_on}")
    if options.beyond_loopback and not options.insecure:
        raise UsageError(
            "beyond loopback nothing is encrypted or authenticated; say --insecure if only friends can reach this node"
        )
    if options.heartbeat_ms * 2 >= options.election_timeout_ms:
        raise UsageError(
            f"--heartbeat-ms {options.heartbeat_ms} is not below half of --election-timeout-ms "
            f"{options.election_timeout_ms}: one lost heartbeat would depose a leader"
        )
