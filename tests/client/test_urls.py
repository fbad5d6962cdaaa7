"""URLs and addresses."""

import pytest

from rewind.errors import InvalidArgument
from rewind.urls import parse_addresses, parse_target


def test_a_url_names_addresses_context_and_timeout() -> None:
    target = parse_target("rewind://127.0.0.1:7070,db-2.example:7170,[::1]:7270/orders?timeout=2.5")

    assert target.addresses == ("127.0.0.1:7070", "db-2.example:7170", "[::1]:7270")
    assert target.context == "orders"
    assert target.timeout_us == 2_500_000


def test_what_a_url_leaves_out_has_defaults() -> None:
    target = parse_target("rewind://db:7070")

    assert (target.context, target.timeout_us) == ("default", 10_000_000)


def test_arguments_override_the_url() -> None:
    target = parse_target("rewind://db:7070/orders?timeout=2", context="billing", timeout=3)

    assert (target.context, target.timeout_us) == ("billing", 3_000_000)


def test_a_list_of_addresses_will_do_and_each_counts_once() -> None:
    assert parse_addresses(["a:1", " b:2 ", "a:1"]) == ("a:1", "b:2")
    assert parse_addresses("a:1,b:2") == ("a:1", "b:2")


@pytest.mark.parametrize(
    "where",
    [
        "",
        [],
        "db",
        "db:",
        "db:0",
        "db:70000",
        ":7070",
        "::1:7070",
        "[::1]",
        "a:1,,b:2",
        "http://db:7070",
        "rewind://",
        "rewind://user@db:7070",
        "rewind://db:7070/orders#x",
        "rewind://db:7070/a/b",
        "rewind://db:7070/or ders",
        "rewind://db:7070?retries=3",
        "rewind://db:7070?timeout=soon",
        "rewind://db:7070?timeout=0",
        "rewind://db:7070?timeout=nan",
        "rewind://db:7070?timeout=inf",
        [7070],
        7070,
        None,
    ],
)
def test_what_is_no_address_is_refused_with_a_reason(where: object) -> None:
    with pytest.raises(InvalidArgument):
        parse_target(where)


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e9, "5", True])
def test_a_timeout_is_a_positive_number_of_seconds(timeout: object) -> None:
    with pytest.raises(InvalidArgument):
        parse_target("db:7070", timeout=timeout)  # type: ignore[arg-type]
