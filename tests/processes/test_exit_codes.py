"""A node that cannot run says why in one line, and its exit code says it to programs."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_program import RealProgram, flags_of

from rewind_node.data_directory import FORMAT_VERSION, SHARD, bring_to_format
from rewind_node.demo import free_port_base
from rewind_node.lmdb_engine import LmdbEngine
from rewind_node.local_cluster import HOST

pytestmark = pytest.mark.processes

Start = Callable[..., RealProgram]


@pytest.fixture
def base() -> int:
    return free_port_base(2)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listening:
        listening.bind((HOST, 0))
        listening.listen()
        yield listening.getsockname()[1]


def assert_ends(program: RealProgram, code: int, words: str) -> None:
    """Check the exit code, and that one line says these words and nothing is a traceback."""
    found = program.wait()

    assert found == code, program.said
    assert len(program.farewell) == 1, program.said
    assert words in program.farewell[0]
    assert program.said.splitlines()[-1] == program.farewell[0]
    assert "Traceback" not in program.said


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"listen": "127.0.0.1:99999"}, "--listen"),
        ({"listen": "0.0.0.0:7070", "advertise": "127.0.0.1:7070"}, "--insecure"),
        ({"replication_factor": "2"}, "even"),
        ({"partitions": "0"}, "--partitions"),
        ({"heartbeat_ms": "900"}, "--election-timeout-ms"),
        ({"name": "no spaces"}, "--name"),
        ({"seeds": ""}, "--seeds is missing"),
        ({"colour": "red"}, "--colour"),
    ],
)
def test_wrong_flags_end_with_2(
    start_program: Start, base: int, tmp_path: Path, wrong: dict[str, str], words: str
) -> None:
    program = start_program(*flags_of(base, tmp_path / "data", **wrong))

    assert_ends(program, 2, words)
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("flag", ["listen", "peer_listen", "http_listen"])
def test_an_address_in_use_ends_with_3(
    start_program: Start, base: int, tmp_path: Path, taken_port: int, flag: str
) -> None:
    program = start_program(*flags_of(base, tmp_path / "data", **{flag: f"{HOST}:{taken_port}"}))

    assert_ends(program, 3, f"{HOST}:{taken_port}")


def test_a_data_directory_in_use_ends_with_4_and_its_user_lives_on(
    start_program: Start, base: int, tmp_path: Path
) -> None:
    first = start_program(*flags_of(base, tmp_path / "data"))
    first.wait_until(None)

    second = start_program(*flags_of(base + 100, tmp_path / "data"))

    assert_ends(second, 4, str(tmp_path / "data"))
    assert first.complaint is None
    assert first.terminate() == 0


def test_data_of_another_cluster_ends_with_5_and_is_kept(start_program: Start, base: int, tmp_path: Path) -> None:
    own = start_program(*flags_of(base, tmp_path / "own"))
    own.wait_until(None)
    own.terminate()
    other = start_program(*flags_of(base + 100, tmp_path / "other", name="n2"))
    other.wait_until(None)

    stray = start_program(*flags_of(base, tmp_path / "own", seeds=f"{HOST}:{base + 101}"))

    assert_ends(stray, 5, "cluster")
    assert other.complaint is None
    own = start_program(*flags_of(base, tmp_path / "own"))
    own.wait_until(None)


def test_data_of_a_newer_version_ends_with_6(start_program: Start, base: int, tmp_path: Path) -> None:
    (tmp_path / "data" / SHARD).mkdir(parents=True)
    engine = LmdbEngine.open(tmp_path / "data" / SHARD)
    bring_to_format(engine, FORMAT_VERSION + 1)
    engine.close()

    program = start_program(*flags_of(base, tmp_path / "data"))

    assert_ends(program, 6, "upgrade")


def test_a_file_that_is_no_database_ends_with_7_and_is_not_touched(
    start_program: Start, base: int, tmp_path: Path
) -> None:
    (tmp_path / "data" / SHARD).mkdir(parents=True)
    letter = b"Dear Sirs, this is no database.\n" * 1000
    (tmp_path / "data" / SHARD / "data.mdb").write_bytes(letter)

    program = start_program(*flags_of(base, tmp_path / "data"))

    assert_ends(program, 7, str(tmp_path / "data"))
    assert (tmp_path / "data" / SHARD / "data.mdb").read_bytes() == letter


def test_a_data_directory_that_cannot_be_made_ends_with_7(start_program: Start, base: int, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    program = start_program(*flags_of(base, tmp_path / "file" / "data"))

    assert_ends(program, 7, str(tmp_path / "file"))


def test_a_file_system_that_cannot_be_written_ends_with_7(
    start_program: Start, base: int, tmp_path: Path, mount: Callable[..., Path]
) -> None:
    directory = mount(tmp_path / "read-only", options="ro")

    program = start_program(*flags_of(base, directory / "data"))

    assert_ends(program, 7, str(directory))


def test_a_name_that_is_in_use_ends_with_2_and_its_owner_lives_on(
    start_program: Start, base: int, tmp_path: Path
) -> None:
    first = start_program(*flags_of(base, tmp_path / "first"))
    first.wait_until(None)

    second = start_program(*flags_of(base + 100, tmp_path / "second", seeds=f"{HOST}:{base + 1}"))

    assert_ends(second, 2, "'n1' is in use")
    assert first.complaint is None


def test_seeds_that_differ_found_nothing_and_each_node_names_the_other(
    start_program: Start, base: int, tmp_path: Path
) -> None:
    both = f"{HOST}:{base + 1},{HOST}:{base + 101}"
    three = f"{both},{HOST}:{base + 111}"

    first = start_program(*flags_of(base, tmp_path / "first", seeds=both))
    second = start_program(*flags_of(base + 100, tmp_path / "second", name="n2", seeds=three))

    first.wait_until(f"seed {HOST}:{base + 101} was started with other seeds")
    second.wait_until(f"seed {HOST}:{base + 1} was started with other seeds")
