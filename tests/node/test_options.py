import os
from pathlib import Path

import pytest

from rewind_node.exits import UsageError
from rewind_node.options import NodeOptions, resolve

GIVEN = {"name": "n1", "data_dir": "/data", "seeds": "127.0.0.1:7071"}


def test_what_is_not_given_has_its_default() -> None:
    options = resolve(GIVEN, {})

    assert options == NodeOptions(name="n1", data_dir=Path("/data"), seeds=("127.0.0.1:7071",))
    assert options.advertise == options.listen == "127.0.0.1:7070"
    assert options.peer_advertise == options.peer_listen == "127.0.0.1:7071"
    assert options.http_advertise == options.http_listen == "127.0.0.1:7072"
    assert (options.partitions, options.replication_factor, options.labels) == (16, 3, {})
    assert (options.election_timeout_ms, options.heartbeat_ms) == (1000, 200)


def test_a_flag_beats_a_variable_beats_the_file_beats_the_default(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('partitions = 2\nheartbeat-ms = 20\nlog_level = "error"\nlog-format = "json"')
    environment = {"REWIND_PARTITIONS": "3", "REWIND_HEARTBEAT_MS": "30", "REWIND_CONFIG": str(config)}

    options = resolve({**GIVEN, "partitions": "4"}, environment)

    assert (options.partitions, options.heartbeat_ms, options.log_level, options.log_format) == (4, 30, "error", "json")
    assert options.election_timeout_ms == 1000


def test_a_variable_set_to_nothing_is_not_set() -> None:
    options = resolve(GIVEN, {"REWIND_PARTITIONS": "", "REWIND_CONFIG": ""})

    assert options.partitions == 16


def test_every_option_can_stand_in_the_file_in_toml_s_own_types(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        'name = "n1"\ndata-dir = "/data"\nseeds = ["b:2", "a:1"]\nlisten = "0.0.0.0:1"\nadvertise = "n1.example:1"\n'
        'peer_listen = "[::1]:2"\npeer-advertise = "[::1]:2"\nhttp-listen = "localhost:3"\nhttp-advertise = "n1:3"\n'
        "partitions = 8\nreplication-factor = 5\nelection-timeout-ms = 2000\nheartbeat-ms = 100\ninsecure = true\n"
        'log-level = "debug"\nlog-format = "json"\n[label]\nzone = "west"\n'
    )

    options = resolve({"config": str(config)}, {})

    assert options == NodeOptions(
        name="n1",
        data_dir=Path("/data"),
        seeds=("a:1", "b:2"),
        listen="0.0.0.0:1",
        advertise="n1.example:1",
        peer_listen="[::1]:2",
        peer_advertise="[::1]:2",
        http_listen="127.0.0.1:3",
        http_advertise="n1:3",
        partitions=8,
        replication_factor=5,
        election_timeout_ms=2000,
        heartbeat_ms=100,
        insecure=True,
        log_level="debug",
        log_format="json",
        labels={"zone": "west"},
    )


def test_labels_come_from_repeated_flags_or_one_variable() -> None:
    by_flag = resolve({**GIVEN, "label": ("zone=west", "rack=7=b")}, {})
    by_variable = resolve({**GIVEN, "label": ()}, {"REWIND_LABEL": "zone=west, rack=7=b"})

    assert by_flag.labels == by_variable.labels == {"zone": "west", "rack": "7=b"}


def test_seeds_are_the_same_in_whatever_order_they_are_given() -> None:
    one = resolve({**GIVEN, "seeds": "b:1, a:1,A2:1"}, {})
    other = resolve({**GIVEN, "seeds": "a2:1,a:1,b:1"}, {})

    assert one.seeds == other.seeds == ("a2:1", "a:1", "b:1")


@pytest.mark.parametrize("missing", ["name", "data_dir", "seeds"])
def test_a_missing_option_is_named(missing: str) -> None:
    given = {name: value for name, value in GIVEN.items() if name != missing}

    with pytest.raises(UsageError, match=f"--{missing.replace('_', '-')} is missing"):
        resolve(given, {})


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": "a b"}, "--name: 'a b' is not 1 to 64"),
        ({"name": "a" * 65}, "--name"),
        ({"seeds": ","}, "--seeds: at least one"),
        ({"seeds": "a:1,b:2,a:1"}, "a:1 is named twice"),
        ({"seeds": "0.0.0.0:1"}, "wildcard"),
        ({"seeds": "1.2.3:1"}, "neither an IP address nor a host name"),
        ({"listen": "7070"}, "is not HOST:PORT"),
        ({"listen": ":7070"}, "is not HOST:PORT"),
        ({"listen": "127.0.0.1:0"}, "no port from 1 to 65535"),
        ({"listen": "127.0.0.1:65536"}, "no port from 1 to 65535"),
        ({"listen": "127.0.0.1:7_0"}, "no port from 1 to 65535"),
        ({"listen": "::1:7070"}, "needs brackets"),
        ({"listen": "[::x]:7070"}, "no IPv6 address between its brackets"),
        ({"listen": "n1.example:7070"}, "no IP address to listen on"),
        ({"advertise": "*:7070"}, "wildcard"),
        ({"listen": "0.0.0.0:7070", "insecure": True}, "--advertise is missing"),
        ({"peer_listen": "[::]:7070", "insecure": True}, "--peer-advertise is missing"),
        ({"http_listen": "*:7070", "insecure": True}, "--http-advertise is missing"),
        ({"listen": "10.0.0.1:7070"}, "say --insecure"),
        ({"http_listen": "10.0.0.1:7070"}, "say --insecure"),
        ({"listen": "127.0.0.1:7071"}, "three different addresses"),
        ({"partitions": "0"}, "--partitions: 0 is not a whole number from 1 to 1024"),
        ({"partitions": "1025"}, "--partitions"),
        ({"partitions": "9" * 5000}, "--partitions"),
        ({"replication_factor": "4"}, "survive no more failures than 3"),
        ({"replication_factor": "9"}, "--replication-factor"),
        ({"label": ("zone",)}, "'zone' is not KEY=VALUE"),
        ({"label": ("zone=a", "zone=b")}, "'zone' is given twice"),
        ({"label": tuple(f"k{number}=v" for number in range(33))}, "33 labels are more than 32"),
        ({"heartbeat_ms": "500"}, "--heartbeat-ms 500 is not below half"),
        ({"election_timeout_ms": "-1"}, "--election-timeout-ms"),
        ({"log_level": "loud"}, "'loud' is not one of debug, info"),
    ],
)
def test_a_wrong_option_is_one_clear_line(given: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        resolve({**GIVEN, **given}, {})

    assert caught.value.code == 2
    assert "\n" not in caught.value.message


def test_an_error_names_the_variable_it_came_from() -> None:
    with pytest.raises(UsageError, match="REWIND_INSECURE: 'perhaps' is neither true nor false"):
        resolve(GIVEN, {"REWIND_INSECURE": "perhaps"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("partition = 3", "unknown key 'partition'; did you mean 'partitions'"),
        ("frobnicate = 3", "unknown key 'frobnicate'$"),
        ('data-dir = "a"\ndata_dir = "b"', "'data_dir' is given twice"),
        ("partitions = '3", "is not TOML"),
        ("partitions = true", "partitions: True is not a whole number"),
        ("name = 3", "name: 3 is not a text"),
        ("seeds = [3]", "seeds: 3 is not a text"),
        ("insecure = 1", "insecure: 1 is neither true nor false"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, text: str, says: str) -> None:
    config = tmp_path / "node.toml"
    config.write_text(text)
    given = {} if text.startswith(("name", "seeds")) else GIVEN
    rest = {"name": "n", "data_dir": "d"} if text.startswith("seeds") else {}

    with pytest.raises(UsageError, match=says):
        resolve({**given, **rest, "config": str(config)}, {})


def test_a_file_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        resolve({**GIVEN, "config": os.fspath(tmp_path / "none.toml")}, {})


@pytest.mark.parametrize(
    ("listen", "beyond"), [("127.8.8.8:1", False), ("[::1]:1", False), ("10.0.0.1:1", True), ("[::]:1", True)]
)
def test_what_other_machines_can_reach_is_beyond_loopback(listen: str, beyond: bool) -> None:
    options = resolve({**GIVEN, "listen": listen, "advertise": "n1:1", "insecure": True}, {})

    assert options.beyond_loopback is beyond
