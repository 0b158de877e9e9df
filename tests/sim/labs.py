"""What the tests of simulated hardware do again and again: evidence to a request, a request to a decision."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from donjon import sim, tee
from donjon.steward.files import Pile
from donjon.steward.policy import Policy, parse
from donjon.steward.procedure import Decision, Trust, decide
from tests.steward.requests import new_key, request, spki

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WORKLOAD = bytes(range(32))
LAX = parse("accept_unattested = true\n")


def asked(lab: sim.Lab, guest: sim.Guest, policy: Policy = LAX, now: datetime = NOW, steal: bool = False) -> Decision:
    """What a Steward that knows the lab's roots says to a request of the guest's.

    Args:
        steal: the evidence was made for another key.
    """
    kind, key = tee.load(guest.tee), new_key()
    bound = spki(new_key() if steal else key)
    data = request((kind.OID, guest.collect(kind.key_binding(bound))), key=key)
    return decide(data, trust(lab), policy, now)


def trust(lab: sim.Lab) -> dict[str, Trust]:
    """What a Steward has that was given the lab's roots."""
    pile = Pile()
    pile.add_roots("roots.toml", Path(lab.roots).read_text())
    return pile.trust()


def failures(decision: Decision) -> list[str]:
    return [check.name for check in decision.failures]
