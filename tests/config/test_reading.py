"""From text and files to a `Config`: what is taken, what stops it, and that nothing but `ParseError` comes out."""

import os
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from donjon.config import STDIO, Config, Connect, Dir, Limits, Listen, Null, Stderr, Stdin, Stdout, Verify, load, parse
from donjon.errors import ParseError, PlatformError, UsageError


def refusal(text: str) -> ParseError:
    with pytest.raises(ParseError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    "text", ["", "\n", "# nothing\n", "\ufeff", "files = [{kind='stdin'},{kind='stdout'},{kind='stderr'}]"]
)
def test_a_file_that_says_nothing_keeps_the_standard_streams(text: str) -> None:
    assert parse(text) == Config()


def test_reads_everything() -> None:
    text = """
        args = ["7", "21"]
        steward = "https://steward.example.com"
        env = { A = "1", "B C" = '' }
        limits.memory = "64 KiB"
        limits.cpu = 1
        [[files]]
        kind = "null"
        [[files]]
        kind = "stdout"
        name = "out"
        [[files]]
        kind = "stderr"
        [[files]]
        kind = "dir"
        host = "data"
        guest = "/data"
        mode = "rw"
        [[files]]
        kind = "listen"
        name = "web"
        [[files]]
        kind = "connect"
        host = "::1"
        prot = "tcp"
        port = 1
    """
    assert parse(text) == Config(
        args=("7", "21"),
        steward="https://steward.example.com",
        env={"A": "1", "B C": ""},
        limits=Limits(memory=65536, cpu=1.0),
        files=(
            Null(),
            Stdout(name="out"),
            Stderr(),
            Dir(host="data", guest="/data", mode="rw"),
            Listen(name="web", prot="tls", addr="::", port=443),
            Connect(name="connect", host="::1", prot="tcp", port=1),
        ),
    )


def test_reads_whom_to_trust() -> None:
    text = """
        steward = "https://steward.example.com"
        steward_ca = "company"
        [roots]
        company = "company.pem"
        "all keeps" = "keeps.pem"
        [[files]]
        kind = "listen"
        name = "web"
        ca = ["all keeps"]
        verify = { workload = ["%s"], names = ["Shop.example.com", "::1"], tee = ["snp", "tdx"], max_age = "90m" }
        [[files]]
        kind = "connect"
        host = "shop.example.com"
        ca = { custom = ["all keeps", "company"] }
        [files.verify]
        measurement = ["%s"]
        accept_unattested = true
    """
    digest, measurement = "AB" * 32, "cd" * 48
    assert parse(text % (digest, measurement)) == Config(
        steward="https://steward.example.com",
        steward_ca="company",
        roots={"company": "company.pem", "all keeps": "keeps.pem"},
        files=(
            Listen(
                name="web",
                ca=("all keeps",),
                verify=Verify(workload=(digest,), names=("Shop.example.com", "::1"), tee=("snp", "tdx"), max_age="90m"),
            ),
            Connect(
                host="shop.example.com",
                ca=("all keeps", "company"),
                verify=Verify(measurement=(measurement,), accept_unattested=True),
            ),
        ),
    )


def test_reads_the_roots_of_enarx_own_test() -> None:
    text = """
        [[files]]
        kind = "connect"
        prot = "tls"
        host = "localhost"
        port = 23456
        name = "stream"
        ca = { custom = [ "test" ] }

        [roots]
        test = \"\"\"\\
        -----BEGIN CERTIFICATE-----
        MAA=
        -----END CERTIFICATE-----
        \"\"\"
    """
    config = parse(text.replace("\n        ", "\n"), "Enarx.toml")
    assert config.files == (Connect(name="stream", host="localhost", port=23456, ca=("test",)),)
    assert config.roots == {"test": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"}


def test_no_files_means_no_files_when_written_so() -> None:
    assert parse("files = []").files == ()
    assert parse("").files == STDIO


def test_reads_the_names_of_enarx_own_test() -> None:
    text = """
        [[files]]
        name = "X"
        kind = "listen"
        prot = "tcp"
        [[files]]
        kind = "connect"
        prot = "tls"
        host = "example.com"
    """
    assert [entry.name for entry in parse(text).files] == ["X", "example.com"]


def test_messages_name_the_source_they_were_given() -> None:
    with pytest.raises(ParseError, match=r"^mine:1:1: "):
        parse("x = 1", "mine")


def test_the_twenty_first_mistake_is_only_counted() -> None:
    error = refusal("args = [" + "1,\n" * 23 + "]")
    lines = error.message.split("\n")
    assert (len(lines), lines[19], lines[20]) == (
        21,
        "Enarx.toml:20:1: args[19]: expected a string, got 1",
        "and 3 more",
    )
    assert error.hint is not None
    assert len(error.hint.split("\n")) == 20


def test_too_many_files_are_refused_at_the_first_that_is_too_many() -> None:
    entry = '[[files]]\nkind = "null"\n'
    assert len(parse(entry * 1024).files) == 1024
    assert refusal(entry * 1025).message == "Enarx.toml:2049:1: files: expected at most 1024 files, got 1025"


def test_counts_columns_in_characters() -> None:
    assert refusal('env = { "ä€😀" = "x", B = 1 }').message.startswith("Enarx.toml:1:26: env.B:")


# What TOML itself refuses


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a", "1:2"),
        ("\n\nargs = [", "3:9"),
        ("args = [\n", "2:1"),
        ('args = ["x]', "1:12"),
        ("args = ['''x]\n", "2:1"),
        ("a = 1979-02-30", "1:5"),
        ("a.b = 1\na = 2", "2:6"),
    ],
)
def test_a_mistake_of_syntax_has_a_place_and_a_hint(text: str, place: str) -> None:
    error = refusal(text)
    assert error.message.startswith(f"Enarx.toml:{place}: ")
    assert "\n" not in error.message
    assert " (at " not in error.message
    assert error.hint


def test_a_mistake_of_syntax_shows_a_dotted_name_as_one() -> None:
    assert "'env.A'" in refusal("[env.A]\n[env.A]").message


def test_a_mistake_of_syntax_with_a_long_name_is_cut() -> None:
    name = "x" * 1000
    assert len(refusal(f"[{name}]\n[{name}]").message) < 150


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "{a = " * 5000, "a = " + "[" * 5000 + "]" * 5000])
def test_deep_nesting_is_refused(text: str) -> None:
    assert refusal(text).message.endswith("expected at most 64 levels, got more")


def test_a_full_call_stack_is_refused_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(text: str) -> None:
        raise RecursionError

    monkeypatch.setattr(tomllib, "loads", overflow)
    assert refusal("a = 1").message == "Enarx.toml: nested too deeply for this call stack"


@pytest.mark.parametrize("text", ["a." * 300_000 + "a = 1", '"a".' * 200_000 + "a = 1", "[" + "a . " * 200_000 + "a]"])
def test_a_key_of_very_many_parts_is_refused_before_it_takes_time(text: str) -> None:
    assert "expected at most 64 levels, got more" in refusal(text).message


def test_many_dots_in_a_string_are_no_levels() -> None:
    assert parse(f'args = ["{"." * 1000}"]').args == ("." * 1000,)


def test_an_integer_with_too_many_digits_is_refused_at_its_place() -> None:
    if not sys.get_int_max_str_digits():
        pytest.skip("this Python was told to read integers of any length")
    error = refusal(f"args = []\n[limits]\nmemory = {'9' * 100_000}")
    assert error.message == "Enarx.toml:3:10: expected an integer of at most 4300 digits, got more"


def test_a_text_may_have_a_million_bytes_and_no_more() -> None:
    assert parse("#" * 1_000_000) == Config()
    assert refusal("#" * 1_000_001).message == "Enarx.toml: expected at most 1000000 bytes, got more"
    assert refusal("#" + "ä" * 500_000).message == "Enarx.toml: expected at most 1000000 bytes, got more"


# Files


def test_loads_a_file_and_finds_its_directories_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = '[[files]]\nkind = "dir"\nhost = "{}"\nguest = "{}"\n'
    (tmp_path / "Enarx.toml").write_text(
        '[[files]]\nkind="stdin"\n' * 3 + entry.format("data", "/data") + entry.format("/srv", "/srv")
    )
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "Enarx.toml", "Enarx.toml", "./Enarx.toml", str(tmp_path / "Enarx.toml")):
        config = load(path)
        assert [entry.host for entry in config.files if isinstance(entry, Dir)] == [str(tmp_path / "data"), "/srv"]
        assert config.files[:3] == (Stdin(),) * 3


def test_finds_roots_beside_the_file_and_leaves_certificates_in_line_as_they_are(tmp_path: Path) -> None:
    inline = "-----BEGIN CERTIFICATE-----"
    path = tmp_path / "Enarx.toml"
    path.write_text(f'[roots]\na = "ca/a.pem"\nb = "/etc/b.pem"\nc = "{inline}"\n')
    assert load(path).roots == {"a": str(tmp_path / "ca" / "a.pem"), "b": "/etc/b.pem", "c": inline}


def test_loads_from_a_pipe() -> None:
    reading, writing = os.pipe()
    os.write(writing, b'args = ["x"]')
    os.close(writing)
    try:
        assert load(f"/dev/fd/{reading}").args == ("x",)
    finally:
        os.close(reading)


def test_a_file_that_is_missing_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path / "Enarx.toml")
    assert caught.value.message == f"cannot read {tmp_path}/Enarx.toml: no such file or directory"
    assert "donjon config init" in (caught.value.hint or "")


def test_a_directory_is_refused_with_the_file_that_was_meant(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load(tmp_path)
    assert caught.value.message == f"cannot read {tmp_path}: is a directory"
    assert caught.value.hint == f"name the file in it: {tmp_path}/Enarx.toml"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000])
def test_what_is_no_path_is_the_callers_mistake(name: str) -> None:
    with pytest.raises(UsageError, match=r"^cannot "):
        load(name)


def test_a_file_that_may_not_be_read_is_the_machines_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: object, mode: str) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)
    with pytest.raises(PlatformError) as caught:
        load("Enarx.toml")
    assert caught.value.message == "cannot read Enarx.toml: permission denied"


def test_an_error_without_words_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: object, mode: str) -> None:
        raise OSError("Broken")

    monkeypatch.setattr("builtins.open", broken)
    with pytest.raises(PlatformError, match=r"cannot read Enarx\.toml: broken"):
        load("Enarx.toml")


@pytest.mark.parametrize(
    ("data", "place", "byte"),
    [(b"\xff", "1:1", "ff"), (b"# \xc3\xa4\n# \xc3\xa4 \xc3", "2:5", "c3"), (b"\xff\xfea\0", "1:1", "ff")],
)
def test_a_file_that_is_not_utf8_is_refused_at_the_byte(tmp_path: Path, data: bytes, place: str, byte: str) -> None:
    path = tmp_path / "Enarx.toml"
    path.write_bytes(data)
    with pytest.raises(ParseError) as caught:
        load(path)
    assert caught.value.message == f"{path}:{place}: expected UTF-8, got the byte {byte}"


def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(ParseError, match=r"^/dev/zero: expected at most 1000000 bytes, got more$"):
        load("/dev/zero")


def test_a_path_cannot_write_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "\x1b[31m.toml"
    path.write_text("x = 1")
    with pytest.raises(ParseError) as caught:
        load(path)
    assert "\x1b" not in caught.value.message


# Any text is parsed or raises ParseError

# fmt: off
KEYS = [
    "args", "env", "files", "limits", "steward", "kind", "name", "prot", "host", "port", "addr", "guest", "mode",
    "memory", "cpu", "descriptors", "FD_COUNT", "roots", "steward_ca", "ca", "ca.custom", "verify", "verify.tee",
    "verify.max_age", "verify.workload",
]
VALUES = [
    '"stdin"', '"listen"', '"connect"', '"dir"', '"null"', '"tls"', '"tsl"', '"https://a"', '"64 KiB"', r'"\u0000"',
    '"a:b"', '"/.."', '""', "0", "443", "-1", "1.5", "true", "nan", "0x1f", "1979-05-27", "[]", "{}",
    '["a"]', '["snp"]', "[7]", '{ custom = ["a"] }', '{ custom = [0] }', '{ tee = ["snp"] }', '{ tee = ["x"] }', '"1h"',
]
TOKENS = [
    "[files]\n", "[[files]]\n", "[env]\n", "[limits]\n", "[roots]\n", "[files.verify]\n",
    "[[files.x]]", " = ", " = ", ".", ",", "{", "}", "[", "]",
    "#", '"', "'", '"""', "'''", "\\", "\u00e9", " ", "\n", "\n",
]
# fmt: on


@settings(max_examples=150, deadline=None)
@given(st.text() | st.lists(st.sampled_from([*KEYS, *VALUES, *TOKENS]), max_size=30).map("".join))
@example('"\\ud800" = 1')
@example("\ud800")
@example('args = ["\ud800"]')
@example('"\ud800" = 1')
@example("[env]\n'\ud800' = '1'")
def test_any_text_is_read_or_refused_in_one_family(text: str) -> None:
    try:
        config = parse(text)
    except ParseError as error:
        check(error)
    else:
        assert isinstance(config, Config)
        assert eval(repr(config), dict(vars(sys.modules["donjon.config"]))) == config


PAIRS = st.tuples(st.sampled_from(KEYS), st.sampled_from(VALUES)).map(" = ".join)
ENTRIES = st.lists(PAIRS, max_size=5, unique_by=lambda pair: pair.split()[0]).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["[[files]]"] * 4 + ["[env]", "[limits]", "[roots]"]), ENTRIES), max_size=5))
def test_any_settings_are_read_or_refused_in_one_family(sections: list[tuple[str, str]]) -> None:
    try:
        parse("\n".join(f"{header}\n{entries}" for header, entries in sections))
    except ParseError as error:
        check(error)


def check(error: ParseError) -> None:
    lines = error.message.split("\n")
    assert 1 <= len(lines) <= 21
    assert all(line.startswith("Enarx.toml:") for line in lines[:20])
    assert error.hint
    assert error.message.replace("\n", "").isprintable()
