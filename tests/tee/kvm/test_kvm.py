"""Evidence that proves nothing is accepted only by name, and says what it is."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from donjon.errors import ParseError, UsageError
from donjon.tee import kvm
from donjon.tee.contract import Demands, appraise

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def test_is_refused_unless_the_demands_accept_it() -> None:
    verdict = appraise(kvm, lambda: kvm.verify(*kvm.parse(b""), kvm.vendor_roots(), NOW), kvm.Policy(), Demands())
    assert not verdict.accepted
    assert str(verdict.failure).startswith("evidence.attested: expected evidence of real hardware, got unprotected")


def test_is_accepted_by_name_and_says_what_it_is() -> None:
    demands = Demands(accept_unattested=True, report_data=bytes(64))
    verdict = appraise(kvm, lambda: kvm.verify(*kvm.parse(b""), kvm.vendor_roots(), NOW), kvm.Policy(), demands)
    report = verdict.require()
    assert not report.protected
    assert (report.product, report.measurement, report.report_data, report.workload) == ("", b"", b"", b"")
    assert "unprotected: proves nothing about the host" in verdict.notes
    assert kvm.key_binding(b"spki") == b""


def test_cannot_satisfy_a_demand_for_a_workload() -> None:
    demands = Demands(accept_unattested=True, workloads=(bytes(32),))
    verdict = appraise(kvm, lambda: kvm.verify(*kvm.parse(b""), kvm.vendor_roots(), NOW), kvm.Policy(), demands)
    assert not verdict.accepted


def test_refuses_anything_but_nothing() -> None:
    with pytest.raises(ParseError, match=r"^KVM evidence: expected 0 bytes, got 1$"):
        kvm.parse(b"\0")


def test_demands_a_time_with_its_zone() -> None:
    with pytest.raises(UsageError):
        kvm.verify(*kvm.parse(b""), kvm.vendor_roots(), datetime(2026, 6, 1))  # noqa: DTZ001
