"""What `donjon new` makes, built and running: the same service in each language."""

from __future__ import annotations

import pytest

from donjon.project import LANGUAGES
from tests import programs
from tests.project.clients import Protocol, connect, receive, serving

pytestmark = pytest.mark.toolchain

GREETING = b"hello from service: say something\n"


# Go's programs are large, and compiled at their first start.
ALL = [pytest.param(lang, marks=[pytest.mark.slow] if lang == "go" else []) for lang in LANGUAGES]
AT_ONCE = [lang for lang in ALL if lang.values != ("wat",)]  # that one takes its clients in turn


@pytest.mark.parametrize("lang", ALL)
@pytest.mark.parametrize("prot", ["tls", "tcp"])
def test_a_new_service_greets_its_clients_and_echoes(lang: str, prot: Protocol) -> None:
    with serving(programs.path(f"service-{lang}"), "service", prot) as address:
        for word in (b"first", b"second"):
            with connect(address, prot) as client:
                assert receive(client, len(GREETING)) == GREETING
                client.sendall(word)
                assert receive(client, len(word)) == word


@pytest.mark.parametrize("lang", AT_ONCE)
def test_a_new_service_talks_to_several_clients_at_once(lang: str) -> None:
    with serving(programs.path(f"service-{lang}"), "service", "tls") as address:
        clients = [connect(address, "tls") for _ in range(5)]
        for client in clients:
            assert receive(client, len(GREETING)) == GREETING
        for number, client in enumerate(clients):
            client.sendall(b"%d" % number)
        for number, client in reversed(list(enumerate(clients))):
            assert receive(client, 1) == b"%d" % number
            client.close()
