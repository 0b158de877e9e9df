"""`donjon platform info`: facts for people, or as JSON."""

from __future__ import annotations

from donjon.cli import tui
from donjon.log import printable
from donjon.platform import facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options

__all__ = ["as_json", "as_text", "info"]


def info(options: Options) -> int:
    """Print what was found; the exit code is 0 whatever that is."""
    found = facts.find()
    tui.write(as_json(found) if options.json else as_text(found))
    return 0


def as_json(found: facts.Facts) -> str:
    """One object, with Enarx's keys `version`, `system_info`, `backends`, and null where Enarx has the word "null"."""
    import json

    backends = [
        {**_with_pass(backend), "data": [_with_pass(datum) for datum in backend["data"]]}
        for backend in found["backends"]
    ]
    return json.dumps({**found, "backends": backends}, indent=2) + "\n"


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
        text += f"\n{tui.mark(backend['passed'])} Backend: {tui.bold(backend['backend'])}\n"
        for datum in backend["data"]:
            end = f": {printable(datum['info'])}" if datum["info"] else ""
            text += f"  {tui.mark(datum['passed'])} {datum['name']}{end}\n"
        messages = [datum["mesg"] for datum in backend["data"]] + [backend["mesg"]]
        text += "".join("\n" + tui.columns(printable(message), 2) for message in messages if message)
    return text


def _with_pass(found: facts.Backend | facts.Datum) -> dict[str, object]:
    """The key is `pass` in JSON, as Enarx has it, which is no name in Python."""
    return {"pass" if key == "passed" else key: value for key, value in found.items()}


def _limit(value: int | None) -> str:
    return "any number" if value is None else str(value)
