"""Single values: what each rule takes, at its borders, and how messages show values."""

import datetime as dt
from typing import Any

import pytest

from donjon.config import _rules as rules

ENDPOINTS = ["localhost", "example.com", "example.com.", "a_b-c.example", "127.0.0.1", "::", "::1", "fe80::1%eth0", "A"]


@pytest.mark.parametrize("text", ENDPOINTS)
def test_takes_a_host_name_or_an_address(text: str) -> None:
    assert rules.endpoint(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a..b",
        "a b",
        "a/b",
        "http://a",
        "[::1]",
        "a:80",
        "a" * 64,
        "1.2.3",
        "1.2.3.4.5",
        "::g",
        "ä.example",
        "a\n",
    ],
)
def test_refuses_what_is_no_host(text: str) -> None:
    with pytest.raises(rules.RuleError, match="expected a host name or an address, got "):
        rules.endpoint(text)


@pytest.mark.parametrize(
    ("value", "size"),
    [(65536, 65536), (1 << 32, 1 << 32), ("64 KiB", 65536), ("64KiB", 65536), ("4 GiB", 1 << 32), ("1 MiB", 1 << 20)],
)
def test_takes_memory_as_bytes_or_with_a_unit(value: object, size: int) -> None:
    assert rules.memory(value) == size


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("256 MB", 'did you mean "256 MiB"?'),
        ("256m", 'did you mean "256 MiB"?'),
        ("1g", 'did you mean "1 GiB"?'),
        ("9 GB", 'write "256 MiB", or a number of bytes'),
        ("1.5 GiB", 'write "256 MiB", or a number of bytes'),
        ("", 'write "256 MiB", or a number of bytes'),
        ("12345678901 KiB", 'write "256 MiB", or a number of bytes'),
        ("٣ MiB", 'write "256 MiB", or a number of bytes'),
        (65535, 'write "256 MiB", or a number of bytes'),
        ((1 << 32) + 1, 'write "256 MiB", or a number of bytes'),
        (True, 'write "256 MiB", or a number of bytes'),
        (1e6, 'write "256 MiB", or a number of bytes'),
    ],
)
def test_refuses_other_memory_with_a_hint(value: object, hint: str) -> None:
    with pytest.raises(rules.RuleError) as caught:
        rules.memory(value)
    assert caught.value.hint == hint


@pytest.mark.parametrize("value", [1, 0.001, 1_000_000_000])
def test_takes_seconds(value: float) -> None:
    assert rules.seconds(value) == float(value)


@pytest.mark.parametrize("value", [0, -1, True, float("nan"), float("inf"), 10**400, 1_000_000_001, "1"])
def test_refuses_seconds_that_are_none(value: object) -> None:
    with pytest.raises(rules.RuleError, match="expected a number of seconds"):
        rules.seconds(value)


@pytest.mark.parametrize(
    "url", ["https://a", "HTTPS://a.example:8443/path?x=y#z", "https://[::1]/", "https://user@a.example"]
)
def test_takes_an_https_url(url: str) -> None:
    assert rules.steward(url) == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://a",
        "HTTP://localhost",
        "ftp://a",
        "https:/a",
        "https://",
        "https://a b",
        "https://ä",
        "https://[::1",
        "https://a:x",
        "https://a:0",
        "https://a:65536",
        "https://a\t",
        "https:///a",
    ],
)
def test_refuses_any_other_url(url: str) -> None:
    with pytest.raises(rules.RuleError, match="expected an https URL, got "):
        rules.steward(url)


@pytest.mark.parametrize("value", ["8080", " 8080 ", "08080"])
def test_a_port_in_quotes_is_refused_with_the_number_as_hint(value: str) -> None:
    with pytest.raises(rules.RuleError) as caught:
        rules.FIELDS["listen"]["port"](value)
    assert caught.value.hint == "write it without quotes: 8080"


@pytest.mark.parametrize("path", ["/", ".", "data", "/a/b..c", "..."])
def test_takes_a_guest_path(path: str) -> None:
    assert rules.guest_path(path) == path


@pytest.mark.parametrize("path", ["", "..", "/..", "a/../b", "a/.."])
def test_refuses_a_guest_path_that_leads_up(path: str) -> None:
    with pytest.raises(rules.RuleError, match="expected a path that is not empty"):
        rules.guest_path(path)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", '"a"'),
        ('a"b\\c', r'"a\"b\\c"'),
        ("\x1b[31m\n\t\r", r'"\u001b[31m\n\t\r"'),
        ("\U000e0001", r'"\U000e0001"'),
        ("é✓", '"é✓"'),
        ("x" * 61, '"' + "x" * 59 + '…"'),
        (True, "true"),
        (False, "false"),
        (-(2**63), "-9223372036854775808"),
        (1 << 20_000, "an integer of 20001 bits"),
        (1.5, "1.5"),
        ([1], "an array"),
        ({}, "a table"),
        (dt.date(2000, 1, 1), "a date"),
        (dt.datetime(2000, 1, 1, tzinfo=dt.UTC), "a datetime"),
        (None, "nothing"),
        (object(), "a value of type object"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_messages_show_a_value_briefly_and_harmlessly(value: Any, shown: str) -> None:
    assert rules.got(value) == shown


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("files", 3, "prot"), "files[3].prot"),
        (("env", "A B"), 'env."A B"'),
        (("env", ""), 'env.""'),
        (("env", "a-b_c"), "env.a-b_c"),
        (("env", "ä"), 'env."ä"'),
    ],
)
def test_a_path_is_written_as_toml_would(path: tuple[str | int, ...], text: str) -> None:
    assert rules.path_text(path) == text


@pytest.mark.parametrize(("word", "near"), [("TSL", "tls"), (" tcp ", "tcp"), ("quic", None), ("t" * 10**6, None)])
def test_the_nearest_word_is_found(word: str, near: str | None) -> None:
    assert rules.nearest(word, ("tls", "tcp")) == near
