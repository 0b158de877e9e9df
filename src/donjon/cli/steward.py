"""`donjon steward`: a policy to start from, evidence judged offline, the service, its record checked."""

from __future__ import annotations

import contextlib
import os
import stat
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from donjon.cli import tui
from donjon.errors import ParseError, PlatformError, UsageError, VerifyError, words_of
from donjon.files import read
from donjon.log import printable
from donjon.steward import answer, endorsement, files, procedure
from donjon.steward.endorsement import Envelope, Proofs
from donjon.steward.policy import MAX_FILE, Policy, parse
from donjon.tee import load
from donjon.tee.contract import Check, Demands, Outcome, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from donjon.cli.parse import Options
    from donjon.log import Logger
    from donjon.steward.authority import Authority
    from donjon.steward.fetching import Vendors

__all__ = ["check_record", "endorse", "init", "judge", "serve"]

T = TypeVar("T")

NAME = "steward.toml"


def init(_options: Options) -> int:
    """Write the template to the current directory; a file that is there stays as it is.

    Returns:
        0, or 1 when the file exists.
    Raises:
        PlatformError: it cannot be written; nothing is left behind.
    """
    from donjon.steward._template import TEMPLATE

    try:
        descriptor = os.open(NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        tui.error(f'"{NAME}" does already exist.', "edit it, or move it away first")
        return 1
    except OSError as error:
        raise PlatformError(f"cannot write {NAME} in the current directory: {words_of(error)}") from error
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(TEMPLATE)
    except OSError as error:
        os.unlink(NAME)
        raise PlatformError(f"cannot write {NAME} in the current directory: {words_of(error)}") from error
    tui.note(f"wrote {NAME}; to try it: `donjon steward judge --policy {NAME} FILE`")
    return 0


def judge(options: Options) -> int:
    """Judge every request and every piece of evidence among the files.

    Returns:
        0 when all were accepted, 4 when one was not.
    Raises:
        ParseError: a file is not what it seems to be; the policy is wrong.
        UsageError: a file is missing, or there is nothing to judge.
    """
    policy = read_policy(options.policy)
    now = read_time(options.at)
    demanded = read_report_data(options.report_data)
    pile = files.Pile()
    if len(options.file) > files.MAX_FILES:
        raise UsageError(f"expected at most {files.MAX_FILES} files, got {len(options.file)}")
    for path in options.file:
        pile.add(printable(path), read(path, files.MAX_FILE))
    if options.roots is not None:
        pile.add_roots(printable(options.roots), files.read_text(options.roots, files.MAX_ROOTS))
    if not pile.subjects:
        raise UsageError("there is nothing to judge", "name a request or a piece of evidence beside what helps")
    proofs = Proofs(kept=read_endorsements(options.endorsements))
    answers = [_judge(subject, pile, policy, now, demanded, proofs) for subject in pile.subjects]
    accepted = all(item["accepted"] for item in answers)
    if options.json:
        import json

        found = {"accepted": accepted, "at": shown(now), "policy": policy.digest.hex(), "subjects": answers}
        tui.write(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    else:
        tui.write("\n".join(as_text(item) for item in answers))
    return 0 if accepted else VerifyError.exit_code


def _judge(
    subject: files.Subject, pile: files.Pile, policy: Policy, now: datetime, demanded: bytes | None, proofs: Proofs
) -> dict[str, Any]:
    trust = pile.trust()
    if not subject.tee:
        decision = procedure.decide(subject.data, trust, policy, now, proofs=proofs)
        return {"file": subject.name, "kind": "request", **answer.decision_dict(decision)}
    demands = Demands(report_data=demanded, accept_unattested=policy.general.accept_unattested)
    kind = load(subject.tee)
    verdict = procedure.judge(kind, lambda: kind.parse(subject.data), trust[subject.tee], policy, demands, now, proofs)
    return {"file": subject.name, "kind": "evidence", **answer.verdict_dict(verdict)}


def as_text(found: dict[str, Any]) -> str:
    """One subject: what it is, every check, and the sentence that counts."""
    checks = [
        Check(
            item["name"], Outcome(item["outcome"]), item["found"], item["demanded"], item["spec"], item.get("note", "")
        )
        for item in found["checks"]
    ]
    title = load(found["tee"]).TITLE if found["tee"] else "no evidence"
    lines = [tui.bold(f"{found['file']}: {found['kind']}, {title}"), ""]
    body = tui.table([(f"{_sign(check)} {check.name}", _about(check)) for check in checks])
    notes = [check.note for check in checks if check.note]
    failed = [check for check in checks if check.outcome is Outcome.FAILED]
    told = "".join(tui.columns(f"note: {printable(note)}", 2) for note in notes)
    if found["accepted"]:
        result = tui.green("accepted")
    else:
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        result = f"{tui.red('refused')}: {printable(failed[0].name)}{more}"
    return "\n".join(lines) + "\n" + body + ("\n" + told if told else "") + f"\n{result}\n"


def _sign(check: Check) -> str:
    return "-" if check.outcome is Outcome.NOT_APPLICABLE else tui.mark(check.outcome is Outcome.PASSED)


def _about(check: Check) -> str:
    """What was found, what was demanded where that says more, and where it is written."""
    if check.outcome is Outcome.NOT_APPLICABLE:
        parts = [f"not applicable: {printable(check.found)}"]
    else:
        parts = [printable(check.found)]
        if check.demanded and check.demanded != check.found:
            parts.append(f"demanded: {printable(check.demanded)}")
    return "\n".join([*parts, f"[{printable(check.spec)}]"])


def serve(options: Options) -> int:
    """Serve until a signal ends it.

    Raises:
        PlatformError: a port is taken, a package is missing. UsageError: a key can be read by others.
    """
    try:
        from donjon.steward import serve as server
    except ImportError as error:
        hint = "install what the service needs: pip install starlette uvicorn h11 httpx"
        raise PlatformError(f"the service needs the package {error.name}", hint) from error
    from donjon.steward.depot import Depot
    from donjon.steward.record import open_book
    from donjon.steward.service import Service, Writer

    log = tui.logger(options.log_filter, options.log_target)
    inputs = _Inputs.read(options)
    policy = inputs.policy
    ports = [_number(options[key], f"--{key.replace('_', '-')}", 65535) for key in ("port", "admin_port")]
    drain = _number(options.drain, "--drain", 3600)
    context = _tls(server.Tls, options)
    if options.tls_key is not None and os.stat(options.tls_key).st_mode & stat.S_IROTH:
        name = printable(options.tls_key)
        log.warn(f"{name}: everybody on this machine can read the key for TLS: chmod o= {name}", "donjon.steward")
    found = _authority(options)
    path = options.record or os.path.join(_state(options), "record.sqlite")
    with contextlib.ExitStack() as stack:
        public = stack.enter_context(server.listen(options.addr, ports[0]))
        admin = stack.enter_context(server.listen(options.admin_addr, ports[1]))
        writer = stack.enter_context(contextlib.closing(Writer(open_book(path))))
        authority = found or _new_authority(options, log)  # which nothing is left of where no service starts
        _warn(policy, log)
        keep = os.path.join(_state(options), "collateral")
        depot = Depot(keep, inputs.trust, policy.collateral, inputs.vendors, log, supplied=inputs.supplied)
        service = Service(policy, inputs.trust, authority, writer, log, depot=depot, endorsements=inputs.endorsements)

        async def reload() -> None:
            """All of it is read before anything is changed."""
            new = _Inputs.read(options)
            if context is not None:
                context.load()
            await service.change(new.policy, new.trust, new.endorsements, new.vendors, new.supplied)
            _warn(new.policy, log)

        server.run(service, public, admin, log, context, drain, reload)
    return 0


class _Inputs(NamedTuple):
    """What SIGHUP reads anew."""

    policy: Policy
    trust: dict[str, procedure.Trust]
    endorsements: dict[bytes, tuple[Envelope, ...]]
    vendors: Vendors | None
    supplied: tuple[tuple[str, bytes], ...]

    @classmethod
    def read(cls, options: Options) -> _Inputs:
        policy = read_policy(options.policy)
        pile = files.Pile()
        if options.roots is not None:
            pile.add_roots(printable(options.roots), files.read_text(options.roots, files.MAX_ROOTS))
        supplied = files.read_collateral(_directory(options.collateral, "", files.MAX_FILE))
        return cls(policy, pile.trust(), read_endorsements(options.endorsements), _vendors(policy), supplied)


def _warn(policy: Policy, log: Logger) -> None:
    if policy.general.accept_unattested:
        log.warn("evidence that proves nothing is accepted: for development only", target="donjon.steward")
    if policy.open_to and any(item.names for item in policy.workloads):
        log.warn(
            f"[[workload]] gives names, and the policy names no code (`hash`) for {', '.join(policy.open_to)}: "
            "who has such a machine can start any guest there and have these names",
            target="donjon.steward",
        )


def _vendors(policy: Policy) -> Vendors | None:
    """Whom to ask for collateral, unless the policy says nobody."""
    if policy.collateral.offline:
        return None
    try:
        from donjon.steward.fetching import Vendors
    except ImportError as error:
        hint = "install it (pip install httpx), or write `offline = true` below [collateral]"
        raise PlatformError(f"fetching collateral needs the package {error.name}", hint) from error
    return Vendors(policy.collateral)


def endorse(options: Options) -> int:
    """Sign a statement that vouches for a workload, and print it.

    Raises:
        UsageError: the digest or a time is wrong, or others can read the key. ParseError: it is none.
    """
    from donjon.steward.authority import read_key

    digest = _digest("DIGEST", options.digest)
    try:
        key = read_key(options.key)
    except ParseError as error:
        raise ParseError(error.message, "make one: openssl genpkey -algorithm ed25519 -out release.key") from error
    until = read_time(options.until, "--until")
    if until <= datetime.now(UTC):
        log = tui.logger(options.log_filter, options.log_target)
        log.warn(f"--until is past, {shown(until)}: nobody believes this statement now", target="donjon.steward")
    tui.write(endorsement.make(digest, key, until, title=options.title or ""))
    return 0


def check_record(options: Options) -> int:
    """Compute the record's chain anew.

    Raises:
        VerifyError: it was changed.
    """
    from donjon.steward.record import is_database, open_book

    head = _hash(options.head)
    if not is_database(options.record) and not os.path.exists(options.record):
        raise UsageError(f"cannot read {printable(options.record)}: no such file", "check the path")
    with open_book(options.record, read_only=True) as book:
        found = book.verify(head)
    tui.write(f"{found.seq} entries\n{found.hash.hex()}\n")
    return 0


def _hash(given: str | None) -> bytes | None:
    return None if given is None else _digest("--head", given)


def _digest(name: str, given: str) -> bytes:
    try:
        value = bytes.fromhex(given)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise UsageError(f"{name}: expected 64 hex digits, got {len(given)} characters")
    return value


def _authority(options: Options) -> Authority | None:
    """The one that was handed over, or the service's own, if it has one yet."""
    from donjon.steward import authority

    if (options.key is None) != (options.crt is None):
        raise UsageError("expected --key and --crt together, got one of them")
    if options.key is not None:
        return authority.from_files(options.key, options.crt)
    directory = _state(options)
    return authority.load(directory, datetime.now(UTC)) if authority.exists(directory) else None


def _new_authority(options: Options, log: Logger) -> Authority:
    from donjon.steward import authority

    directory = _state(options)
    log.info(f"making an authority in {directory}", target="donjon.steward")
    return authority.create(directory, datetime.now(UTC))


def _state(options: Options) -> str:
    directory: str = options.state
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
    except OSError as error:
        raise PlatformError(f"cannot make {printable(directory)}: {words_of(error)}") from error
    return directory


def _tls(make: Callable[[str, str], T], options: Options) -> T | None:
    if (options.tls_key is None) != (options.tls_crt is None):
        raise UsageError("expected --tls-key and --tls-crt together, got one of them")
    return make(options.tls_crt, options.tls_key) if options.tls_key is not None else None


def _number(given: str, name: str, most: int) -> int:
    if not (given.isascii() and given.isdigit() and len(given) < 8 and int(given) <= most):
        raise UsageError(f'{name}: expected a number from 0 to {most}, got "{given[:20]}"')
    return int(given)


# What several commands of this group read


def read_policy(path: str | None) -> Policy:
    """The policy in a file, or the safe default."""
    return Policy() if path is None else parse(files.read_text(path, MAX_FILE), printable(path))


def read_endorsements(directory: str | None) -> dict[bytes, tuple[Envelope, ...]]:
    """All statements in a directory: its files that end in .json.

    Raises:
        UsageError: it is none, or there are too many. ParseError: one of them is not well formed.
    """
    return files.read_endorsements(_directory(directory, ".json", endorsement.MAX_ENVELOPE))


def _directory(directory: str | None, ending: str, most: int) -> Iterator[tuple[str, bytes]]:
    """The files in a directory, with their names: those with this ending, and none whose name begins with a dot."""
    if directory is None:
        return
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(ending) and name[0] != ".")
    except ValueError as error:
        raise UsageError(f"cannot read {printable(directory)}: not a path", "check the path") from error
    except OSError as error:
        raise UsageError(f"cannot read {printable(directory)}: {words_of(error)}", "check the path") from error
    if len(names) > files.MAX_IN_DIRECTORY:
        raise UsageError(f"{printable(directory)}: expected at most {files.MAX_IN_DIRECTORY} files")
    for name in names:
        path = os.path.join(directory, name)
        yield printable(path), read(path, most)


def read_time(given: str | None, name: str = "--at") -> datetime:
    """A time with its zone, or now.

    Raises:
        UsageError: it is none.
    """
    if given is None:
        return datetime.now(UTC)
    hint = "write it as 2026-06-01T12:00:00Z"
    try:
        found = datetime.fromisoformat(given)
    except ValueError as error:
        raise UsageError(f'{name}: expected a time, got "{given[:40]}"', hint) from error
    if found.tzinfo is None:
        raise UsageError(f'{name}: expected a time with its zone, got "{given}"', hint)
    try:
        return found.astimezone(UTC)
    except OverflowError as error:
        raise UsageError(f'{name}: expected a time in the years 1 to 9999, got "{given}"', hint) from error


def read_report_data(given: str | None) -> bytes | None:
    """64 bytes in hex, or nothing."""
    if given is None:
        return None
    try:
        value = bytes.fromhex(given)
    except ValueError:
        value = b""
    if len(value) != 64:
        raise UsageError(f"--report-data: expected 128 hex digits, got {len(given)} characters")
    return value
