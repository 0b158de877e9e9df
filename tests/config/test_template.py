"""The file of `donjon config init` says what it teaches: as it stands, and with every setting switched on."""

import donjon.config
from donjon.config import TEMPLATE, Config, Connect, Dir, Limits, Listen, Stderr, Stdin, Stdout, Verify, parse
from donjon.config._rules import FIELDS, SECTIONS


def switched_on(text: str) -> str:
    return "".join(line.removeprefix("# ") for line in text.splitlines(keepends=True))


def test_as_it_stands_it_is_the_default() -> None:
    assert parse(TEMPLATE) == Config()


def test_with_every_setting_switched_on_it_parses() -> None:
    assert parse(switched_on(TEMPLATE)) == Config(
        args=["--greeting", "hello"],
        env={"LANGUAGE": "en"},
        steward="https://steward.example.com",
        steward_ca="company",
        roots={"company": "company.pem", "keeps": "steward-root.pem"},
        limits=Limits(memory=256 << 20, cpu=60),
        files=[
            Stdin(),
            Stdout(),
            Stderr(),
            Dir(host=".", guest="/data"),
            Listen(name="web", prot="tls", addr="::", port=12345, ca=["keeps"]),
            Connect(
                name="database",
                prot="tls",
                host="localhost",
                port=23456,
                ca=["keeps"],
                verify=Verify(
                    workload=["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],
                    names=["shop.example.com"],
                    tee=["snp", "tdx"],
                    measurement=["01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b"],
                    max_age="24h",
                    accept_unattested=True,
                ),
            ),
        ],
    )


def test_it_shows_every_key_and_every_kind() -> None:
    lines = [line.split(" = ")[0] for line in switched_on(TEMPLATE).splitlines()]
    keys = {key for fields in FIELDS.values() for key in fields}
    keys |= {"args", "steward", "steward_ca", "[env]", "[limits]", "[roots]", "kind"}
    assert keys - {"verify"} <= set(lines)
    assert "[files.verify]" in lines
    assert all(f'"{kind}"' in TEMPLATE for kind in FIELDS if kind not in SECTIONS)


def test_it_fits_a_terminal() -> None:
    assert max(map(len, TEMPLATE.splitlines())) <= 120
    assert TEMPLATE.endswith("\n")


def test_the_package_has_no_other_lazy_names() -> None:
    assert not hasattr(donjon.config, "TEMPLATES")
