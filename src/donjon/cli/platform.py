"""`donjon platform info | record`: facts for people, as JSON, or as a directory to look at elsewhere."""

from __future__ import annotations

from donjon.cli import tui
from donjon.log import printable
from donjon.platform import facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from donjon.cli.parse import Options
    from donjon.platform.machine import Machine

__all__ = ["as_json", "as_text", "backend_to_json", "info", "record"]


def info(options: Options) -> int:
    """Print what was found; the exit code is 0 whatever that is."""
    found = facts.find(_machine(options))
    tui.write(as_json(found) if options.json else as_text(found))
    return 0


def record(options: Options) -> int:
    """Write what `info` asks this machine into a directory, with the answers."""
    from donjon.platform.machine import Machine, Recorder

    recorder = Recorder(Machine())
    facts.find(recorder)
    names = recorder.write(options.dir)
    tui.write("".join(f"{options.dir}/{name}\n" for name in names))
    return 0


def _machine(options: Options) -> Machine | None:
    """The machine of a record, where one was named."""
    if options.recorded is None:
        return None
    from donjon.platform.machine import Recorded

    return Recorded(options.recorded)


def as_json(found: facts.Facts) -> str:
    """One object, with Enarx's keys `version`, `system_info`, `backends`, and null where Enarx has the word "null"."""
    import json

    changed = {
        **found,
        "backends": [backend_to_json(backend) for backend in found["backends"]],
        "confidential_vm_data": [_datum_to_json(datum) for datum in found["confidential_vm_data"]],
    }
    return json.dumps(changed, indent=2) + "\n"


def backend_to_json(backend: facts.Backend) -> dict[str, object]:
    """A backend with the keys of Enarx; those that it does not have stand beside them."""
    return {
        "backend": backend.name,
        "pass": backend.passed,
        "hardware": backend.hardware,
        "protects": backend.protects,
        "runs": backend.runs,
        "mesg": backend.mesg,
        "data": [_datum_to_json(datum) for datum in backend.data],
    }


def _datum_to_json(datum: facts.Datum) -> dict[str, object]:
    return {
        "name": datum.name,
        "pass": datum.passed,
        "needed": datum.needed,
        "info": datum.info,
        "mesg": datum.mesg,
        "command": datum.command,
        "data": [_datum_to_json(child) for child in datum.data],
    }


def as_text(found: facts.Facts) -> str:
    """Facts in two columns, then each backend with what it needs."""
    engine, tls, descriptors = found["engine"], found["tls"], found["descriptors"]
    hybrid = ", ".join(tls["hybrid"]) or "none (OpenSSL 3.5 brings them)"
    rows = (
        ("System", found["system_info"]),
        ("Processors", str(found["processors"])),
        ("Python", found["python"]),
        ("Engine", f"{engine['name']} {engine['version'] or 'is not installed'}"),
        ("", engine["library"] or "no library for this machine"),
        ("TLS", f"{tls['library']}, {'with' if tls['version_1_3'] else 'without'} TLS 1.3"),
        ("Groups", ", ".join(tls["groups"])),
        ("Post-quantum", hybrid),
        ("Cache", found["cache"] or "none: this user has no home directory"),
        ("Descriptors", f"{_limit(descriptors['soft'])}, can be raised to {_limit(descriptors['hard'])}"),
    )
    text = f"{tui.bold('Donjon ' + found['version'])}\n\n"
    text += tui.table([(name, printable(value)) for name, value in rows])
    for backend in found["backends"]:
        text += f"\n{tui.mark(backend.passed)} Backend: {tui.bold(backend.name)}\n"
        text += "".join(_lines(datum, 1) for datum in backend.data)
        text += _paragraphs([*_messages(backend.data), backend.mesg])
    inside = found["confidential_vm"]
    text += f"\nThis machine is {f'itself a confidential VM: {inside}' if inside else 'no confidential VM'}\n"
    if inside:
        text += "".join(_lines(datum, 1) for datum in found["confidential_vm_data"])
        text += _paragraphs(_messages(found["confidential_vm_data"]))
    return text


def _paragraphs(messages: Iterable[str | None]) -> str:
    """Each once, in the order of the data."""
    return "".join("\n" + tui.columns(printable(message), 2) for message in dict.fromkeys(messages) if message)


def _lines(datum: facts.Datum, depth: int) -> str:
    """A datum, and below it, further in, what belongs to it."""
    end = f": {printable(datum.info)}" if datum.info else ""
    mark = tui.mark(datum.passed) if datum.passed or datum.needed else "-"
    own = f"{'  ' * depth}{mark} {datum.name}{end}\n"
    return own + "".join(_lines(child, depth + 1) for child in datum.data)


def _messages(data: Iterable[facts.Datum]) -> Iterator[str | None]:
    for datum in data:
        yield datum.mesg
        yield from _messages(datum.data)


def _limit(value: int | None) -> str:
    return "any number" if value is None else str(value)
