"""Where collateral is fetched from: what the policy's table says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from donjon.errors import UsageError
from donjon.steward.fetching import Vendors
from donjon.steward.policy import parse


def test_certificates_for_vendors_that_cannot_be_read_are_told_before_anybody_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    settings = parse(f'[collateral]\nca = "{path}"\n').collateral
    with pytest.raises(UsageError, match=r"^\[collateral\] ca: cannot use .*ca\.pem: "):
        Vendors(settings)
    path.write_text("no certificate\n")
    with pytest.raises(UsageError, match=r"^\[collateral\] ca: cannot use "):
        Vendors(settings)
