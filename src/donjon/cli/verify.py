"""`donjon verify` and `donjon connect`: what a relying party asks for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from donjon.cli import tui
from donjon.cli.steward import read_time
from donjon.errors import ParseError, PlatformError, UsageError, words_of
from donjon.files import read
from donjon.log import printable
from donjon.steward import files
from donjon.steward.answer import check_dict
from donjon.steward.procedure import Trust
from donjon.tee import load
from donjon.tee.contract import Outcome, shown
from donjon.verify import Demands, Proof, RefusedError, expect, judge
from donjon.verify.certificates import read_chain
from donjon.verify.connection import fetch, read_address
from donjon.verify.judgement import judge_evidence, judge_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime

    from donjon.cli.parse import Options

__all__ = ["connect", "verify"]

STDIN = "-"
WORDS = ("steward_root", "roots", "tee", "product", "measurement", "workload", "names", "max_age", "accept_unattested")


def verify(options: Options) -> int:
    """Judge a live Keep, or certificates and evidence in files.

    Returns:
        0 when everything demanded holds; with --json, 4 when not.
    Raises:
        RefusedError: not everything holds. PlatformError: nobody is there. ParseError: a file is malformed.
        UsageError: demands contradict each other, a file is missing.
    """
    given = {word: options[word] for word in WORDS if word != "names"}
    demands = expect(options.policy, names=options.name, **{k: v for k, v in given.items() if v is not None})
    now = read_time(options.at)
    subject, prove = _subject(options, demands)
    try:
        proof = prove(now)
    except RefusedError as error:
        if options.json:
            _write_json(subject, now, None, error)
            return error.exit_code
        tui.write(refused_text(subject, error))
        raise
    if options.json:
        _write_json(subject, now, proof, None)
    else:
        tui.write(proof_text(subject, proof))
    return 0


def connect(options: Options) -> int:
    """Carry connections to a proven Keep until a signal ends it.

    Raises:
        RefusedError, PlatformError: the Keep is not what was demanded, or not there, at the start.
    """
    from donjon.verify.proxy import Proxy, listen

    target = read_address(options.host, "HOST:PORT")
    here = read_address(options.listen, "--listen")
    demands = read_expected(options.expect)
    log = tui.logger(options.log_filter, options.log_target)
    proxy = Proxy(target, demands, options.pin, log)
    with listen(here) as listener:
        bound = listener.getsockname()
        where = f"[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"{bound[0]}:{bound[1]}"
        if not bound[0].startswith("127.") and bound[0] != "::1":
            log.warn(f"{where} is open to others than this machine, in the clear", target="donjon.verify")
        if not demands.asks_what_runs:
            log.warn("nobody asked what runs: no workload is expected", target="donjon.verify")

        def announce() -> None:
            log.info(f"listening on {where} for {printable(str(target))}", target="donjon.verify")

        proxy.run(listener, announce)
    return 0


def read_expected(text: str) -> Demands:
    """What `--expect` says: a policy file, or demands as `key=value`, with commas between them.

    Raises:
        UsageError: a key is unknown, or a value is wrong.
    """
    if "=" not in text.partition("/")[0]:
        return expect(text)
    found: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key not in WORDS:
            raise UsageError(
                f'--expect: expected a file, or {"=..., ".join(WORDS)}=..., got "{printable(part[:40])}"',
                "a value that is one of several is written again: tee=snp,tee=tdx",
            )
        if key in ("tee", "product", "measurement", "workload", "names", "steward_root"):
            found.setdefault(key, []).append(value)
        elif key in found:
            raise UsageError(f"--expect: expected {key} once, got it twice")
        elif key == "accept_unattested":
            if value not in ("true", "false"):
                raise UsageError(f'--expect: accept_unattested: expected true or false, got "{printable(value[:20])}"')
            found[key] = value == "true"
        else:
            found[key] = value
    return expect(**found)


def _subject(options: Options, demands: Demands) -> tuple[str, Callable[[datetime], Proof]]:
    """What is to be judged: its name, and how."""
    words: tuple[str, ...] = options.what
    address = _address(words[0]) if len(words) == 1 else None
    if address is not None:
        seconds = _seconds(options.timeout)
        chain = fetch(address, seconds)
        return printable(str(address)), lambda now: judge(chain, demands, now)
    pile = files.Pile()
    if len(words) > files.MAX_FILES:
        raise UsageError(f"expected at most {files.MAX_FILES} files, got {len(words)}")
    for word in words:
        name = "standard input" if word == STDIN else printable(word)
        pile.add(name, _stdin() if word == STDIN else _file(word))
    if len(pile.subjects) > 1:
        raise UsageError(f"expected one thing to judge, got {len(pile.subjects)}", "`donjon steward judge` takes many")
    if not pile.subjects:
        if not pile.certificates:
            raise UsageError("there is nothing to judge", "name HOST:PORT, certificates, or a piece of evidence")
        read_chain(pile.certificates)  # in a file, what is malformed is no refusal
        return printable(words[0]), lambda now: judge(pile.certificates, demands, now)
    subject = pile.subjects[0]
    trust = {name: _joined(own, demands.roots.get(name)) for name, own in pile.trust().items()}
    if not subject.tee:
        return subject.name, lambda now: judge_request(subject.data, trust, demands, now)
    kind, own = load(subject.tee), trust[subject.tee]
    return subject.name, lambda now: judge_evidence(kind, lambda: kind.parse(subject.data), own, demands, now)


def _joined(own: Trust, demanded: Trust | None) -> Trust:
    """The roots that are demanded, with the collateral of the files."""
    if demanded is None:
        return own
    return Trust(demanded.roots, lambda evidence, found: own.complete(evidence, demanded.complete(evidence, found)))


def _address(word: str) -> Any:
    """HOST:PORT, or None for what is a file: a word with a slash, without a colon, or that ends in no number."""
    port = word.rpartition(":")[2]
    if "/" in word or ":" not in word or not port.isdigit():
        return None
    return read_address(word, "HOST:PORT")


def _file(path: str) -> bytes:
    try:
        return read(path, files.MAX_FILE)
    except UsageError as error:
        raise UsageError(error.message, "check the path; a Keep is named as HOST:PORT, without https://") from error


def _stdin() -> bytes:
    try:
        data = sys.stdin.buffer.read(files.MAX_FILE + 1)
    except OSError as error:
        raise PlatformError(f"cannot read standard input: {words_of(error)}") from error
    if len(data) > files.MAX_FILE:
        raise ParseError(f"standard input: expected at most {files.MAX_FILE} bytes, got more")
    return data


def _seconds(given: str) -> float:
    if not (given.isascii() and given.isdigit() and 1 <= len(given) <= 4 and 1 <= int(given) <= 3600):
        raise UsageError(f'--timeout: expected seconds from 1 to 3600, got "{printable(given[:20])}"')
    return float(given)


def proof_text(subject: str, proof: Proof) -> str:
    """For people: what was proven, and what they must know."""
    rows = [
        ("judged by", proof.judged_by),
        ("judged at", shown(proof.judged_at)),
        ("TEE", f"{load(proof.tee).TITLE}{f', {proof.product}' if proof.product else ''}"),
        ("TCB", shown(proof.tcb)),
        ("measurement", proof.measurement.hex() or "none"),
        ("workload", proof.workload.hex() or "the evidence names none"),
        ("names", shown(proof.names)),
        ("nonce", "bound when it was judged" if proof.nonce else "none"),
        ("key", proof.key.hex() or "not asked"),
        ("valid until", shown(proof.valid_until)),
    ]
    rows = [(name, printable(text)) for name, text in rows]
    weak = [word for word, true in (("simulated", proof.simulated), ("unprotected", not proof.protected)) if true]
    head = f"{subject}: {tui.green('proven')}"
    if weak:
        head = f"{subject}: {tui.red(' and '.join(weak).upper())}, accepted as demanded"
    told = "".join(tui.columns(f"note: {printable(note)}", 2) for note in proof.notes)
    return tui.bold(head) + "\n\n" + tui.table(rows) + (f"\n{told}" if told else "")


def refused_text(subject: str, error: RefusedError) -> str:
    """For people: what did not hold."""
    failed = [check for check in error.checks if check.outcome is Outcome.FAILED]
    rows = [
        (
            f"{tui.mark(False)} {check.name}",
            f"{printable(check.found)}\ndemanded: {printable(check.demanded)}\n[{printable(check.spec)}]",
        )
        for check in failed
    ]
    return tui.bold(f"{subject}: {tui.red('refused')}") + "\n\n" + tui.table(rows)


def proof_dict(proof: Proof) -> dict[str, Any]:
    """A proof in the words of JSON; these names stay."""
    return {
        "tee": proof.tee,
        "product": proof.product,
        "tcb": dict(proof.tcb),
        "measurement": proof.measurement.hex(),
        "workload": proof.workload.hex(),
        "judged_by": proof.judged_by,
        "anchor": proof.anchor.hex(),
        "judged_at": shown(proof.judged_at),
        "valid_until": shown(proof.valid_until),
        "simulated": proof.simulated,
        "protected": proof.protected,
        "nonce": proof.nonce,
        "names": list(proof.names),
        "key": proof.key.hex(),
        "certificate": proof.certificate.hex(),
        "notes": list(proof.notes),
    }


def _write_json(subject: str, now: datetime, proof: Proof | None, error: RefusedError | None) -> None:
    import json

    checks = proof.checks if proof is not None else error.checks if error is not None else ()
    found = {
        "subject": subject,
        "proven": proof is not None,
        "at": shown(now),
        "reason": error.message if error is not None else "",
        "hint": (error.hint or "") if error is not None else "",
        "proof": proof_dict(proof) if proof is not None else None,
        "checks": [check_dict(check) for check in checks],
    }
    tui.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
