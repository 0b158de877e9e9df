"""The file of `donjon config init` says what it teaches: as it stands, and with every setting switched on."""

import donjon.config
from donjon.config import TEMPLATE, Config, Connect, Dir, Limits, Listen, Stderr, Stdin, Stdout, parse
from donjon.config._rules import FIELDS


def switched_on(text: str) -> str:
    return "".join(line.removeprefix("# ") for line in text.splitlines(keepends=True))


def test_as_it_stands_it_is_the_default() -> None:
    assert parse(TEMPLATE) == Config()


def test_with_every_setting_switched_on_it_parses() -> None:
    assert parse(switched_on(TEMPLATE)) == Config(
        args=["--greeting", "hello"],
        env={"LANGUAGE": "en"},
        steward="https://steward.example.com",
        limits=Limits(memory=256 << 20, cpu=60),
        files=[
            Stdin(),
            Stdout(),
            Stderr(),
            Dir(host=".", guest="/data"),
            Listen(name="web", prot="tls", addr="::", port=12345),
            Connect(name="database", prot="tls", host="localhost", port=23456),
        ],
    )


def test_it_shows_every_key_and_every_kind() -> None:
    lines = [line.split(" = ")[0] for line in switched_on(TEMPLATE).splitlines()]
    keys = {key for fields in FIELDS.values() for key in fields} | {"args", "steward", "[env]", "[limits]", "kind"}
    assert keys <= set(lines)
    assert all(f'"{kind}"' in TEMPLATE for kind in FIELDS if kind != "limits")


def test_it_fits_a_terminal() -> None:
    assert max(map(len, TEMPLATE.splitlines())) <= 120
    assert TEMPLATE.endswith("\n")


def test_the_package_has_no_other_lazy_names() -> None:
    assert not hasattr(donjon.config, "TEMPLATES")
