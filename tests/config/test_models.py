"""Values built in Python: defaults, checks, and what a frozen value can do."""

import copy
import os
import pickle
import subprocess
import sys
from typing import Any

import pytest

from donjon.config import (
    STDIO,
    Config,
    Connect,
    Dir,
    Limits,
    Listen,
    Null,
    Stderr,
    Stdin,
    Stdout,
    Verify,
    default,
    models,
)
from donjon.errors import UsageError

EVERYTHING = Config(
    args=["7", "21"],
    env={"A": "1"},
    steward="https://steward.example.com/",
    steward_ca="company",
    roots={"company": "/etc/company.pem", "keeps": "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"},
    files=[
        Stdin(),
        Null(name="nothing"),
        Stderr(),
        Dir(host="data", guest="/data"),
        Listen(name="web", addr="::1", port=0),
        Listen(name="keeps", port=0, ca=["keeps"], verify=Verify(tee=["snp"], max_age="24h")),
        Connect(host="example.com", prot="tcp"),
        Connect(host="example.com", ca=["company"], verify=Verify(workload=["Aa" * 32], names=["shop.example.com"])),
    ],
    limits=Limits(memory="1 GiB", descriptors=9, connections=0, cpu=1),
)


ANYTHING: Any = {}


def test_the_default_has_the_standard_streams_and_nothing_else() -> None:
    config = default()
    assert config == Config()
    assert (config.args, config.env, config.steward) == ((), {}, None)
    assert config.files == STDIO == (Stdin(), Stdout(), Stderr())
    assert [entry.kind for entry in config.files] == [entry.name for entry in config.files]
    limits = config.limits
    assert (limits.memory, limits.descriptors, limits.connections, limits.cpu) == (None, 4096, 4096, None)


def test_sequences_become_tuples_and_units_become_numbers() -> None:
    assert EVERYTHING.args == ("7", "21")
    assert isinstance(EVERYTHING.files, tuple)
    assert EVERYTHING.limits.memory == 1 << 30
    assert type(EVERYTHING.limits.cpu) is float


def test_what_a_peer_must_prove_is_kept_in_one_form() -> None:
    verify = Verify(workload=["AB" * 32], max_age="2h", measurement=["Cd" * 48])
    assert (verify.workload, verify.measurement, verify.max_age) == (("ab" * 32,), ("cd" * 48,), 7200)
    assert Verify(names=["Shop.Example.com.", "0:0:0::1", "10.0.0.7"]).names == ("shop.example.com", "::1", "10.0.0.7")
    assert [Verify(max_age=text).max_age for text in ("30s", "90m", "24h", "7d", 5)] == [30, 5400, 86400, 604800, 5]


def test_a_workload_or_a_name_says_who_the_peer_is_and_nothing_else_does() -> None:
    says_who = [Verify(workload=["01" * 32]), Verify(names=["a"])]
    assert all(verify.identifies for verify in says_who)
    assert not Verify(tee=["snp"], measurement=["00" * 32], max_age=1, accept_unattested=True).identifies


def test_a_socket_is_as_it_was_without_ca_and_verify() -> None:
    assert [(file.ca, file.verify) for file in (Listen(name="a"), Connect(host="a"))] == [(None, None)] * 2
    assert Listen(name="a", ca={"custom": ["x"]}).ca == ("x",)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Listen(name="a", ca=[]), "Listen.ca: expected at least one name in [roots], got none"),
        (
            lambda: Listen(name="a", verify=Verify()),
            "Listen.verify: expected `ca` beside it, which says whose certificates are believed",
        ),
        (
            lambda: Connect(host="a", ca="x", prot="tcp"),
            (
                'Connect.ca: expected an array of names in [roots], got "x"\n'
                'Connect.ca: expected prot = "tls" beside it, got "tcp", which has no certificates'
            ),
        ),
        (lambda: Listen(name="a", ca=["x"], verify=ANYTHING), "Listen.verify: expected Verify, got a table"),
        (lambda: Verify(tee=["SNP"]), 'Verify.tee[0]: expected "snp", "tdx", "sgx", "cca" or "kvm", got "SNP"'),
        (
            lambda: Verify(max_age=0),
            'Verify.max_age: expected a time of at least a second, like "90m", "24h" or "7d", got 0',
        ),
        (
            lambda: Verify(workload=["00" * 32]),
            "Verify.workload[0]: expected the digest of a workload, got zeros alone",
        ),
        (
            lambda: Verify(workload=["\u0660" * 64]),
            'Verify.workload[0]: expected 64 hexadecimal digits, got "' + "\u0660" * 59 + '…"',
        ),
    ],
)
def test_what_does_not_fit_a_socket_is_refused(make: Any, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make()
    assert caught.value.message == message


def test_the_protocol_decides_the_port() -> None:
    assert Listen(name="a").prot == "tls"
    assert [Listen(name="a", prot=prot).port for prot in ("tls", "tcp")] == [443, 80]
    assert [Connect(host="a", prot=prot).port for prot in ("tls", "tcp")] == [443, 80]
    assert Listen(name="a").addr == "::"


@pytest.mark.parametrize(("host", "name"), [("example.com", "example.com"), ("::1", "connect"), ("127.0.0.1",) * 2])
def test_a_connection_is_named_after_its_host_unless_that_would_break_fd_names(host: str, name: str) -> None:
    assert Connect(host=host).name == name


@pytest.mark.parametrize(("guest", "name"), [("/data", "/data"), ("a:b", "dir")])
def test_a_directory_is_named_after_its_guest_path_unless_that_would_break_fd_names(guest: str, name: str) -> None:
    assert Dir(host=".", guest=guest).name == name
    assert Dir(host=".", guest=guest).mode == "ro"


@pytest.mark.parametrize("value", [EVERYTHING, default(), *EVERYTHING.files, EVERYTHING.limits])
def test_a_value_equals_its_copies_and_prints_as_the_call_that_makes_it(value: Any) -> None:
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
    assert eval(repr(value), vars(models)) == value
    assert value.replace() == value
    assert value != "something else"


def test_files_and_limits_can_be_keys() -> None:
    assert len({Null(), Null(), Null(name="other"), Stdin(name="null"), Limits(), Limits()}) == 4


def test_values_cannot_be_changed() -> None:
    value: Any = Stdin()
    with pytest.raises(AttributeError, match=r"Stdin\.name cannot be changed: use replace\(name=\.\.\.\)"):
        value.name = "x"
    with pytest.raises(AttributeError, match=r"Stdin\.name cannot be deleted"):
        del value.name
    with pytest.raises(AttributeError):
        value.other = "x"


def test_replace_makes_a_checked_copy() -> None:
    assert Config().replace(args=["a"]) == Config(args=["a"])
    with pytest.raises(UsageError, match="at least 3"):
        Config().replace(limits=Limits(descriptors=2))


def test_one_configuration_does_not_share_its_variables_with_another() -> None:
    given = {"A": "1"}
    first, second = Config(env=given), Config()
    given["B"] = first.env["C"] = second.env["D"] = "2"
    second.roots["E"] = "3"
    assert Config().roots == {}
    assert (first.env, second.env, Config().env) == ({"A": "1", "C": "2"}, {"D": "2"}, {})


def test_takes_the_variables_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DONJON_TEST", "yes")
    assert Config(env=os.environ).env["DONJON_TEST"] == "yes"


def test_a_number_equal_to_a_default_does_not_slip_in_as_another_type() -> None:
    given: Any = 4096.0
    assert type(Limits(descriptors=given).descriptors) is int


def test_all_that_is_wrong_with_a_value_is_told_at_once() -> None:
    wrong: Any = "tsl"
    with pytest.raises(UsageError) as caught:
        Listen(name="a:b", prot=wrong, port=70000)
    assert caught.value.message.split("\n") == [
        'Listen.prot: expected "tls" or "tcp", got "tsl"',
        'Listen.name: expected a name without ":", got "a:b"',
        "Listen.port: expected an integer from 0 to 65535, got 70000",
    ]
    assert caught.value.hint is not None
    assert caught.value.hint.startswith('did you mean "tls"?\n')


def test_a_long_list_of_mistakes_is_cut() -> None:
    numbers: Any = [*range(50)]
    with pytest.raises(UsageError) as caught:
        Config(args=numbers)
    lines = caught.value.message.split("\n")
    assert (len(lines), lines[0], lines[-1]) == (21, "Config.args[0]: expected a string, got 0", "and 30 more")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"args": "abc"}, 'Config.args: expected an array of strings, got "abc"'),
        ({"args": [None]}, "Config.args[0]: expected a string, got nothing"),
        ({"args": [b"x"]}, "Config.args[0]: expected a string, got a value of type bytes"),
        ({"args": ["\udcff"]}, 'Config.args[0]: expected valid Unicode, got "\\udcff"'),
        ({"args": ["ü" * 65537]}, "Config.args[0]: expected at most 131072 bytes, got 131074"),
        ({"args": [""] * 65537}, "Config.args: expected at most 65536 strings, got 65537"),
        ({"env": ["A"]}, "Config.env: expected a table of strings, got an array"),
        ({"env": {1: "x"}}, "Config.env.1: expected a string, got 1"),
        ({"env": {str(n): "" for n in range(65537)}}, "Config.env: expected at most 65536 variables, got 65537"),
        ({"steward": 5}, "Config.steward: expected a string, got 5"),
        ({"files": None}, "Config.files: expected an array of files, got nothing"),
        ({"files": [Null()] * 1025}, "Config.files: expected at most 1024 files, got 1025"),
        (
            {"files": ["stdin"]},
            'Config.files[0]: expected one of Null, Stdin, Stdout, Stderr, Listen, Connect, Dir, got "stdin"',
        ),
        ({"roots": {str(n): "x" for n in range(65)}}, "Config.roots: expected at most 64 roots, got 65"),
        (
            {"files": [Listen(name="a", ca=["x"])]},
            'Config.files[0].ca[0]: expected a name in [roots], got "x"',
        ),
        ({"limits": {"cpu": 1}}, "Config.limits: expected Limits, got a table"),
        (
            {"files": [Dir(host=".", guest="x")]},
            "Config.files[0]: expected a dir at files[3] or later, got one at files[0]",
        ),
    ],
    ids=lambda value: value[:60] if isinstance(value, str) else "",
)
def test_a_configuration_refuses(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Config(**fields)
    assert caught.value.message == message
    assert caught.value.hint


def test_names_and_hosts_that_are_no_text_are_refused_and_not_used() -> None:
    number: Any = 5
    with pytest.raises(UsageError, match=r"Connect\.host: expected a string, got 5"):
        Connect(host=number)
    with pytest.raises(UsageError, match=r"Dir\.host: expected a path, got 5"):
        Dir(host=number, guest="/")


def test_a_directory_of_the_host_may_have_any_name_that_a_system_can_write() -> None:
    assert Dir(host=os.fsdecode(b"/srv/\xff"), guest="/").host == "/srv/\udcff"
    with pytest.raises(UsageError, match="expected a path, got"):
        Dir(host="/srv/\ud800", guest="/")
    with pytest.raises(UsageError, match="expected at most 4096 bytes, got 5000"):
        Dir(host="x" * 5000, guest="/")


def test_the_default_starts_without_what_a_quick_start_cannot_afford() -> None:
    code = """if True:
        import sys
        import donjon.config
        donjon.config.default()
        print(*sorted(name for name in sys.modules if name.startswith("donjon.config")))
        donjon.config.default().replace(args=["a"], env={"A": "b"})
        heavy = {"typing", "re", "enum", "dataclasses", "json", "tomllib", "socket", "difflib", "ipaddress", "pathlib"}
        print(*sorted(heavy & set(sys.modules)))
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    shown = subprocess.run(
        [sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "donjon.config donjon.config.models\n\n"
