"""The judgement behind `donjon doctor`: for each backend whether it works, and if not, what to do, in what order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from donjon.platform.backends import Backend, Datum

__all__ = ["Judgement", "examine"]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said about one backend.

    Args:
        state: "works"; "missing": the processor is one for it, something else is not there; "no hardware"; or
            "not started": all is there, and this version of Donjon starts no Keeps in it.
        summary: the same in words, for somebody who has never heard of it.
        steps: what to mend, in order. remarks: what would be better, and is not needed.
        wanted: it counts: a machine on which it does not work is not well.
    """

    backend: str
    state: str
    summary: str
    steps: tuple[Datum, ...]
    remarks: tuple[Datum, ...]
    wanted: bool

    @property
    def well(self) -> bool:
        """Whether it works, or nobody asks for it."""
        return self.state == "works" or not self.wanted


_ABOUT = {
    "nil": "a Keep as a process of this machine, open to whoever controls it",
    "kvm": "a Keep as a virtual machine, open to whoever controls this one",
    "snp": "a Keep that the machine's owner cannot look into, by AMD's SEV-SNP",
    "tdx": "a Keep that the machine's owner cannot look into, by Intel's TDX",
    "sgx": "a Keep that the machine's owner cannot look into, by Intel's SGX",
}


_HIDDEN = "The processor has none, or the BIOS or a hypervisor hides it."
_HIDDEN_TDX = (
    "The processor has none, the BIOS hides it, or the kernel is built without: Linux 6.16 and later can have it."
)


def examine(found: Iterable[Backend], named: str | None = None) -> list[Judgement]:
    """Judge.

    Args:
        named: the one backend that counts; without it, nil counts, and those that protect and whose hardware is here.
    """
    made = []
    for backend in found:
        if named in (None, backend.name):
            wanted = named is not None or backend.name == "nil" or (backend.protects and backend.hardware)
            made.append(_judge(backend, wanted and (named is not None or backend.runs)))
    return made


def _judge(backend: Backend, wanted: bool) -> Judgement:
    about = _ABOUT[backend.name]
    steps = _steps(backend.data)
    remarks = tuple(datum for datum in _all(backend.data) if not datum.passed and not datum.needed and datum.mesg)
    if not backend.hardware:
        hidden = _HIDDEN_TDX if backend.name == "tdx" else _HIDDEN
        kind = next((d.mesg for d in _all(backend.data) if d.name == "CPU" and d.mesg), hidden)
        return Judgement(backend.name, "no hardware", f"{about}: not on this machine. {kind}", (), (), wanted)
    if not backend.passed:
        count = "one thing is" if len(steps) == 1 else f"{len(steps)} things are"
        return Judgement(backend.name, "missing", f"{about}: {count} missing", steps, remarks, wanted)
    if not backend.runs:
        return Judgement(backend.name, "not started", f"{about}. {backend.mesg}", (), remarks, wanted)
    with_what = next((f", with {d.info}" for d in backend.data if d.name == "Acceleration"), "")
    return Judgement(backend.name, "works", about + with_what, (), remarks, wanted)


def _steps(data: Iterable[Datum]) -> tuple[Datum, ...]:
    """What is missing and can be mended, each cause once: several things may have the same."""
    found: dict[tuple[str | None, str | None], Datum] = {}
    for datum in _all(data):
        if datum.needed and not datum.passed and (datum.mesg or datum.command):
            found.setdefault((datum.mesg, datum.command), datum)
    return tuple(found.values())


def _all(data: Iterable[Datum]) -> Iterable[Datum]:
    for datum in data:
        yield datum
        yield from _all(datum.data)
