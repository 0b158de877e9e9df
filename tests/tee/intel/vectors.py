"""The vectors of SGX and TDX, with what `expected.json` says of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from donjon.tee.intel.collateral import Collateral, from_json

FOLDER = Path(__file__).resolve().parents[2] / "vectors"


@dataclass(frozen=True)
class Vector:
    """One entry."""

    tee: str
    entry: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.tee}/{self.entry['id']}"

    def read(self, name: str) -> bytes:
        """The bytes of one of its files."""
        path: str = self.entry["files"][name]
        return (FOLDER / self.tee / path).read_bytes()

    @property
    def collateral(self) -> Collateral:
        """What came with it; nothing where nobody captured any."""
        return from_json(self.read("collateral")) if "collateral" in self.entry["files"] else Collateral()

    @property
    def judge_at(self) -> datetime:
        """The time for the main verdict."""
        return datetime.fromisoformat(self.entry["judge_at"])

    @property
    def judgements(self) -> list[dict[str, Any]]:
        """The main verdict and those at other times: `at`, `authentic`, `failure`."""
        main = {"at": self.entry["judge_at"], "authentic": self.entry["authentic"], "failure": self.entry["failure"]}
        return [main, *(self.entry.get("also") or ())]


def load(tee: str) -> list[Vector]:
    """All vectors of one TEE."""
    document = json.loads((FOLDER / tee / "expected.json").read_text())
    return [Vector(tee, entry) for entry in document["vectors"]]


ALL = load("sgx") + load("tdx")
EVIDENCE = [(vector, judgement) for vector in ALL for judgement in vector.judgements]


def named(vector_id: str) -> Vector:
    """One vector by tee/id."""
    return next(vector for vector in ALL if str(vector) == vector_id)
