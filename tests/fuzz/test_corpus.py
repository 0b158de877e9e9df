"""Every input that ever reached something new is tried again, on every Python; and the good inputs are still good.

The corpus was made by `python -m tests.fuzz.run --keep` from nothing but the seeds of the targets: simulated evidence
and the vectors in tests/vectors. tests/fuzz/corpus/README.md says how to renew it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from donjon.steward import app
from donjon.tee.contract import Demands
from tests.fuzz import mutate, targets
from tests.fuzz.run import CORPUS
from tests.fuzz.targets import TARGETS

LARGEST = 2_000_000


@pytest.fixture(scope="module", autouse=True)
def service() -> Iterator[None]:
    """The Steward that some targets have made ends with the tests."""
    yield
    while targets.LIVE:
        targets.LIVE.pop().close()


@pytest.mark.parametrize("name", TARGETS)
def test_the_invariant_holds_for_seeds_and_corpus(name: str) -> None:
    target = TARGETS[name]
    folder = CORPUS / name
    inputs = [b"", *target.seeds()]
    inputs += [path.read_bytes() for path in sorted(folder.iterdir())] if folder.is_dir() else []
    for data in inputs:
        target.run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_the_invariant_holds_for_changed_seeds(name: str) -> None:
    import random

    target = TARGETS[name]
    dice = random.Random(name)
    seeds = [*target.seeds()] or [b""]
    for _ in range(20):
        seed = dice.choice(seeds)
        changed = mutate.MUTATORS[target.form](seed, dice)
        target.run((mutate.bits(seed, dice) if changed is None else changed)[: target.longest])


def test_each_target_says_what_holds() -> None:
    for target in TARGETS.values():
        assert target.act.__doc__
        assert target.form in mutate.MUTATORS


def test_the_corpus_is_small_and_belongs_to_targets_that_there_are() -> None:
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < LARGEST
    assert {path.name for path in CORPUS.iterdir() if path.is_dir()} <= set(TARGETS)


@pytest.mark.parametrize("name", ["snp", "sgx", "tdx", "cca"])
def test_what_targets_sign_is_accepted_when_nothing_is_changed(name: str) -> None:
    maker = targets.world().makers[name]
    assert maker.judge(targets.evidence(name), Demands(bytes(64), True)).accepted
    assert targets.live().post("/", targets.made_request(name), app.PKCS10).status == 200


@pytest.mark.parametrize(
    ("form", "name"), [("der", "snp.evidence"), ("cbor", "cca.evidence"), ("json", "steward.attest")]
)
def test_mutation_keeps_the_form(form: str, name: str) -> None:
    import random

    (seed, *_) = TARGETS[name].seeds()
    made = [mutate.MUTATORS[form](seed, random.Random(number)) for number in range(50)]
    assert len({data for data in made if data not in (None, seed)}) > 15
    assert made == [mutate.MUTATORS[form](seed, random.Random(number)) for number in range(50)]
    if form == "der":
        assert all(mutate.taken_apart(data) is not None for data in made if data is not None)
