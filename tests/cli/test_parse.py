"""Words of a command line: what they mean, and what is said about those that mean nothing."""

from __future__ import annotations

import pytest

from donjon.cli import parse as parsing
from donjon.cli.parse import Options, Request, parse
from donjon.cli.table import COMMANDS, GLOBAL
from donjon.errors import UsageError

LOG = {"log_filter": "info", "log_target": "stderr", "help": False, "version": False}
ATTEST = {"attest": "auto", "sim": None, "sandbox": "auto", "tsm": "/sys/kernel/config/tsm/report"}
MACHINE = {
    "memory": None, "accel": "auto", "boot_seconds": "120", "signatures": None, "firmware": None, "output": False,
    "debug": False,
}  # fmt: skip
CHOICE = {"backend": "auto", "require": None, "name": None, "detach": False}
RUN = {"module": "a.wasm", "wasmcfgfile": None, "args": (), **CHOICE, **ATTEST, **LOG, **MACHINE}
NIL = {**RUN, "backend": "nil"}


@pytest.fixture(autouse=True)
def languages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing is tested apart from the languages and the backends there are."""
    real = parsing.load
    known = {"donjon.project:LANGUAGES": ("c", "zig"), "donjon.platform:BACKENDS": ("auto", "nil")}
    monkeypatch.setattr(parsing, "load", lambda reference: known.get(reference) or real(reference))


def values(request: Request) -> dict[str, object]:
    return request.options._values


@pytest.mark.parametrize(
    ("words", "name", "expected"),
    [
        pytest.param("run a.wasm", "run", RUN, id="run takes a module"),
        pytest.param("a.wasm", "run", RUN, id="a module alone is run"),
        pytest.param(
            "dir/a.WAT", "run", {**RUN, "module": "dir/a.WAT"}, id="the short form knows text modules, in any case"
        ),
        pytest.param("run --backend nil a.wasm", "run", NIL, id="a value can follow its option"),
        pytest.param("run a.wasm --backend=NIL", "run", NIL, id="a value can stand behind =, words in any case"),
        pytest.param(
            "run --wasmcfgfile=a=b a.wasm", "run", {**RUN, "wasmcfgfile": "a=b"}, id="only the first = counts"
        ),
        pytest.param("run --wasmcfgfile= a.wasm", "run", {**RUN, "wasmcfgfile": ""}, id="a value can be empty"),
        pytest.param(
            "run --wasmcfgfile=-x a.wasm",
            "run",
            {**RUN, "wasmcfgfile": "-x"},
            id="behind = a value can begin with a dash",
        ),
        pytest.param("run - ", "run", {**RUN, "module": "-"}, id="a dash alone is no option"),
        pytest.param(
            "run a.wasm -- -h --x -- y",
            "run",
            {**RUN, "args": ("-h", "--x", "--", "y")},
            id="all after -- is the guest's",
        ),
        pytest.param("a.wasm --", "run", RUN, id="nothing need follow --"),
        pytest.param("a.wasm -- b c", "run", {**RUN, "args": ("b", "c")}, id="the short form has arguments too"),
        pytest.param(
            "--wasmcfgfile e a.wasm", "run", {**RUN, "wasmcfgfile": "e"}, id="options of run may precede the short form"
        ),
        pytest.param(
            "--log-filter debug run a.wasm",
            "run",
            {**RUN, "log_filter": "debug"},
            id="log options may precede the command",
        ),
        pytest.param(
            "run a.wasm --log-filter debug",
            "run",
            {**RUN, "log_filter": "debug"},
            id="log options may follow the command",
        ),
        pytest.param(
            "run a.wasm --log-target STDOUT",
            "run",
            {**RUN, "log_target": "stdout"},
            id="the log target has any case, as in Enarx",
        ),
        pytest.param("config init", "config init", LOG, id="a command can have two words"),
        pytest.param(
            "config --log-filter=off init",
            "config init",
            {**LOG, "log_filter": "off"},
            id="options fit between the two words",
        ),
        pytest.param(
            "platform info", "platform info", {"json": False, "recorded": None, **LOG}, id="a flag not given is false"
        ),
        pytest.param(
            "platform info -j", "platform info", {"json": True, "recorded": None, **LOG}, id="a flag has a short form"
        ),
        pytest.param(
            "platform info --json",
            "platform info",
            {"json": True, "recorded": None, **LOG},
            id="a flag has a long form",
        ),
        pytest.param("build", "build", {"dir": ".", **LOG}, id="an argument can have a default"),
        pytest.param("build -- -x", "build", {"dir": "-x", **LOG}, id="after -- words are arguments where no guest is"),
        pytest.param(
            "new n --lang c", "new", {"name": "n", "lang": "c", **LOG}, id="a required option is found anywhere"
        ),
        pytest.param(
            "completion zsh", "completion", {"shell": "zsh", **LOG}, id="an argument can be one of some words"
        ),
    ],
)
def test_means(words: str, name: str, expected: dict[str, object]) -> None:
    request = parse(words.split(), {})
    assert (request.asks, request.name, request.command) == ("call", name, COMMANDS[name])
    assert values(request) == expected


@pytest.mark.parametrize(
    ("words", "asks", "name", "brief"),
    [
        pytest.param("", "help", "", False, id="no words ask for help"),
        pytest.param("--help", "help", "", False, id="help on everything"),
        pytest.param("-h", "help", "", True, id="short help on everything"),
        pytest.param("config --help", "help", "config", False, id="help on a group"),
        pytest.param("config init -h", "help", "config init", True, id="help on a command"),
        pytest.param("run --help", "help", "run", False, id="help needs no arguments"),
        pytest.param("a.wasm --help", "help", "run", False, id="help on the short form"),
        pytest.param("--version", "version", "", None, id="version"),
        pytest.param("run -V", "version", "run", None, id="version after a command"),
    ],
)
def test_asks(words: str, asks: str, name: str, brief: bool | None) -> None:
    request = parse(words.split(), {})
    assert (request.asks, request.name, values(request).get("brief")) == (asks, name, brief)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        pytest.param("rnu", 'unknown command "donjon rnu"', "did you mean `donjon run`?", id="a command misspelt"),
        pytest.param("qqq", 'unknown command "donjon qqq"', "see `donjon --help`", id="a command like no other"),
        pytest.param(
            "platfrom",
            'unknown command "donjon platfrom"',
            "did you mean `donjon platform info`?",
            id="a group misspelt",
        ),
        pytest.param(
            "./app", 'unknown command "donjon ./app"', "to run a file: `donjon run ./app`", id="a path for a command"
        ),
        pytest.param(
            "./a;b",
            'unknown command "donjon ./a;b"',
            "to run a file: `donjon run './a;b'`",
            id="a path that needs quotes",
        ),
        pytest.param(
            "config",
            '"donjon config" is not a whole command: expected "config init"',
            "see `donjon config --help`",
            id="half a command",
        ),
        pytest.param(
            "config int",
            'unknown command "donjon config int"',
            "did you mean `donjon config init`?",
            id="its other half misspelt",
        ),
        pytest.param(
            "config qqq",
            'unknown command "donjon config qqq"',
            "see `donjon config --help`",
            id="its other half unknown",
        ),
        pytest.param(
            "config a.wasm",
            'unknown command "donjon config a.wasm"',
            "see `donjon config --help`",
            id="a module after a group",
        ),
        pytest.param("--log-filter off", "a command is missing", "see `donjon --help`", id="options alone"),
        pytest.param(
            "-- a.wasm",
            "a command is missing",
            "the module comes before --, as in: `donjon run app.wasm -- ARG`",
            id="a module after --",
        ),
        pytest.param(
            "run --backed x a",
            'unknown option "--backed" of "donjon run"',
            'did you mean "--backend"?',
            id="an option misspelt",
        ),
        pytest.param(
            "run --qqq=1 a",
            'unknown option "--qqq" of "donjon run"',
            "see `donjon run --help`",
            id="an option like no other",
        ),
        pytest.param(
            "run -x a",
            'unknown option "-x" of "donjon run"',
            "see `donjon run --help`",
            id="a letter that is no option",
        ),
        pytest.param(
            "--json", 'unknown option "--json" of "donjon"', "see `donjon --help`", id="an option before its command"
        ),
        pytest.param(
            "--backend nil config init",
            'unknown option "--backend" of "donjon config init"',
            "see `donjon config init --help`",
            id="an option of run before another command",
        ),
        pytest.param(
            "run a --json",
            'unknown option "--json" of "donjon run"',
            "see `donjon run --help`",
            id="an option of another command",
        ),
        pytest.param(
            "run --back nil a",
            'unknown option "--back" of "donjon run"',
            'did you mean "--backend"?',
            id="an option cut short",
        ),
        pytest.param("run --backend", "--backend: expected NAME, got nothing", None, id="a value missing at the end"),
        pytest.param(
            "run --backend --log-filter off a",
            '--backend: expected NAME, got "--log-filter"',
            "a value that begins with a dash is written --backend=NAME",
            id="a value missing before an option",
        ),
        pytest.param(
            "run --backend -- a",
            '--backend: expected NAME, got "--"',
            "a value that begins with a dash is written --backend=NAME",
            id="a value missing before --",
        ),
        pytest.param(
            "run --backend sgx a", '--backend: expected auto or nil, got "sgx"', None, id="a backend that is not there"
        ),
        pytest.param(
            "run --backend nli a",
            '--backend: expected auto or nil, got "nli"',
            'did you mean "nil"?',
            id="a backend misspelt",
        ),
        pytest.param(
            "run --backend nil --backend nil a", "--backend: expected once, got twice", None, id="an option repeated"
        ),
        pytest.param(
            "--log-filter off run --log-filter=off a",
            "--log-filter: expected once, got twice",
            None,
            id="an option before and after the command",
        ),
        pytest.param(
            "platform info --json -j", "--json: expected once, got twice", None, id="a flag repeated in another form"
        ),
        pytest.param("platform info --json=1", '--json: expected no value, got "1"', None, id="a flag with a value"),
        pytest.param(
            "run", "MODULE is missing", "usage: donjon run [OPTIONS] MODULE [-- ARG...]", id="an argument missing"
        ),
        pytest.param(
            "run -- a.wasm",
            "MODULE is missing",
            "usage: donjon run [OPTIONS] MODULE [-- ARG...]",
            id="a module only after --",
        ),
        pytest.param(
            "run a b",
            'unexpected argument "b" after "donjon run"',
            "words for the program go after --, as in: `donjon run a -- b`",
            id="arguments for the guest without --",
        ),
        pytest.param(
            "build a b",
            'unexpected argument "b" after "donjon build"',
            "usage: donjon build [OPTIONS] [DIR]",
            id="an argument too many",
        ),
        pytest.param(
            "config init x",
            'unexpected argument "x" after "donjon config init"',
            "usage: donjon config init [OPTIONS]",
            id="an argument where none is taken",
        ),
        pytest.param(
            "new x",
            "--lang is missing",
            "usage: donjon new --lang LANGUAGE [OPTIONS] NAME",
            id="a required option missing",
        ),
        pytest.param(
            "new x --lang zg",
            '--lang: expected one of c, cpp, zig, rust, go, assemblyscript, wat, got "zg"',
            'did you mean "zig"?',
            id="a language misspelt",
        ),
        pytest.param(
            "new x --lang c++",
            '--lang: expected one of c, cpp, zig, rust, go, assemblyscript, wat, got "c++"',
            'did you mean "cpp"?',
            id="a language by its other name",
        ),
        pytest.param(
            "completion csh",
            'SHELL: expected bash, zsh or fish, got "csh"',
            'did you mean "zsh"?',
            id="a shell we do not know",
        ),
        pytest.param(
            "run a --log-target x",
            '--log-target: expected stderr or stdout, got "x"',
            None,
            id="a log target we do not know",
        ),
        pytest.param(
            "run a --log-filter x",
            '--log-filter: expected off, error, warn, info, debug, trace or donjon.PART=LEVEL, got "x"',
            'for example "debug", or "warn,donjon.tls=trace"',
            id="a log filter that is none",
        ),
    ],
)
def test_refuses(words: str, message: str, hint: str | None) -> None:
    with pytest.raises(UsageError) as caught:
        parse(words.split(), {})
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    ("words", "environ", "key", "expected"),
    [
        pytest.param("", {"DONJON_BACKEND": "nil"}, "backend", "nil", id="a variable of ours counts"),
        pytest.param(
            "", {"DONJON_WASMCFGFILE": "d", "ENARX_WASMCFGFILE": "e"}, "wasmcfgfile", "d", id="ours wins over Enarx's"
        ),
        pytest.param("", {"ENARX_WASMCFGFILE": "e"}, "wasmcfgfile", "e", id="Enarx's counts"),
        pytest.param(
            "",
            {"DONJON_WASMCFGFILE": "", "ENARX_WASMCFGFILE": "e"},
            "wasmcfgfile",
            "e",
            id="an empty one counts as absent",
        ),
        pytest.param("--wasmcfgfile o", {"DONJON_WASMCFGFILE": "d"}, "wasmcfgfile", "o", id="the option wins over all"),
        pytest.param(
            "--backend nil",
            {"ENARX_BACKEND": "sgx"},
            "backend",
            "nil",
            id="a bad one does no harm where an option is given",
        ),
        pytest.param(
            "", {"ENARX_LOG": "enarx=debug"}, "log_filter", "enarx=debug", id="a filter for Enarx is understood"
        ),
        pytest.param(
            "", {"DONJON_LOG_TARGET": "stdout"}, "log_target", "stderr", id="options without a variable have none"
        ),
    ],
)
def test_environment(words: str, environ: dict[str, str], key: str, expected: str) -> None:
    assert parse(["run", "a.wasm", *words.split()], environ).options[key] == expected


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        pytest.param(
            {"DONJON_BACKEND": "kvm"}, 'DONJON_BACKEND: expected auto or nil, got "kvm"', id="names our variable"
        ),
        pytest.param(
            {"ENARX_BACKEND": "sgx"}, 'ENARX_BACKEND: expected auto or nil, got "sgx"', id="names Enarx's variable"
        ),
        pytest.param({"ENARX_LOG": "loud"}, "ENARX_LOG: expected off,", id="checks a filter from the environment"),
    ],
)
def test_refuses_variables(environ: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(["run", "a.wasm"], environ)
    assert caught.value.message.startswith(message)


def test_options_are_found_by_attribute_and_by_key() -> None:
    options = Options({"module": "a", "log_filter": "off"})
    assert options.module == options["module"] == "a"
    assert repr(options) == "Options({'module': 'a', 'log_filter': 'off'})"
    with pytest.raises(AttributeError, match="backend"):
        options.backend  # noqa: B018 - the access is the test


def test_the_table_has_no_two_options_that_look_alike() -> None:
    for command in COMMANDS.values():
        options = (*command.options, *GLOBAL)
        names = [word for option in options for word in (option.name, option.short) if word]
        keys = [option.key for option in options] + [argument.key for argument in command.arguments]
        assert len(set(names)) == len(names)
        assert len(set(keys)) == len(keys)
        assert all(option.name.startswith("--") for option in options)
