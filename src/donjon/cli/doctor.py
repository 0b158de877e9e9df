"""`donjon doctor`: what works on this machine, and the command that mends what does not."""

from __future__ import annotations

from donjon.cli import tui
from donjon.errors import PlatformError
from donjon.log import printable
from donjon.platform import backends, doctor, facts
from donjon.platform.choice import name_of
from donjon.platform.machine import Machine, Recorded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from donjon.cli.parse import Options
    from donjon.platform.backends import Backend, Datum
    from donjon.platform.doctor import Judgement
    from donjon.platform.kvm import Kvm

__all__ = ["NAMES", "as_json", "as_text", "run"]

NAMES = ("nil", "kvm", "snp", "sev", "tdx", "sgx")
"""What can be asked about; sev is Enarx's name of snp."""


def run(options: Options) -> int:
    """Judge this machine, or a recorded one.

    Returns:
        0 when all that counts works, 3 otherwise.
    """
    machine = Recorded(options.recorded) if options.recorded is not None else _Here(options.anew)
    named = None if options.backend is None else name_of(options.backend)
    found: list[Backend] = [facts.nil(), *backends.find(machine)]
    judged = doctor.examine(found, named)
    guest = backends.inside(machine)[0]
    tui.write(as_json(judged, guest) if options.json else as_text(judged, guest))
    return 0 if all(one.well for one in judged) else PlatformError.exit_code


class _Here(Machine):
    """This machine, whose KVM may have been tried before."""

    def __init__(self, anew: bool) -> None:
        self._anew = anew
        self._found: Kvm | None = None

    def kvm(self) -> Kvm:
        """Tried once, whoever asks."""
        from donjon.platform.kvm import probe

        self._found = self._found or probe(self._anew)
        return self._found


def as_json(judged: Iterable[Judgement], guest: str | None) -> str:
    """One object."""
    import json

    def plain(data: Iterable[Datum]) -> list[dict[str, str | None]]:
        return [{"name": one.name, "mesg": one.mesg, "command": one.command} for one in data]

    rows = [
        {
            "backend": one.backend,
            "state": one.state,
            "wanted": one.wanted,
            "summary": one.summary,
            "steps": plain(one.steps),
            "remarks": plain(one.remarks),
        }
        for one in judged
    ]
    return json.dumps({"confidential_vm": guest, "backends": rows}, indent=2) + "\n"


def as_text(judged: Iterable[Judgement], guest: str | None) -> str:
    """Each backend with what to do, in the order in which to do it."""
    text = ""
    if guest:
        words = (
            f"This machine is itself a confidential VM ({guest}): Keeps run in place, and --require tee accepts that."
        )
        text += tui.columns(words) + "\n"
    for one in judged:
        mark = "-" if one.state in ("no hardware", "not started") and not one.wanted else tui.mark(one.state == "works")
        text += tui.table([(f"{mark} {one.backend}", printable(one.summary))], indent=0)
        for number, step in enumerate(one.steps, 1):
            text += _step(f"{number}.", step)
        for remark in one.remarks:
            text += _step("-", remark)
    return text


def _step(mark: str, datum: Datum) -> str:
    what = f"{datum.name}: {datum.mesg}" if datum.mesg else datum.name
    text = tui.table([(mark.ljust(2), printable(what))], indent=6, gap=1)
    return text + (f"         {tui.bold(printable(datum.command))}\n" if datum.command else "")
