"""What each field may hold: one small rule a field, for files and for values built in Python alike.

A rule takes a value as TOML or Python gives it and returns it as the models keep it, or raises `RuleError` with
"expected ..., got ..." and a hint. It does not know where the value stands: whoever applies it adds the path.

Arguments on the command line come through here too, so this module imports next to nothing.
"""

from __future__ import annotations

import os

from donjon.config.models import File, Limits, Verify
from donjon.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeGuard

    Path = tuple[str | int, ...]
    Rule = Callable[[object], object]

MAX_FILES = 1024
MAX_ITEMS = 65_536  # arguments, or variables
MAX_STRING = 131_072  # bytes in one argument or variable, as Linux allows (MAX_ARG_STRLEN)
MAX_PATH = 4096  # bytes, also in a name, as a directory's path is its default name
MAX_URL = 2048
MAX_COUNT = 1 << 20  # descriptors, connections
MAX_SECONDS = 1_000_000_000
MAX_PROBLEMS = 20  # what one message lists
MAX_LEVELS = 64  # of nesting; no setting needs more than five
MAX_ROOTS = 64
MAX_DEMANDS = 1024  # entries of one list in `verify`
MAX_AGE = 10 * 366 * 86_400  # seconds; no certificate of a Steward is valid for longer

PEM = "-----BEGIN "  # what tells the text of a PEM file from its path
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
MIN_MEMORY, MAX_MEMORY = 1 << 16, 1 << 32  # one wasm page; all that a 32-bit memory can have


class RuleError(Exception):
    """A value breaks its rule."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint


class Problem:
    """A rule that is broken somewhere: `path` leads there, `on_key` says that the key is wrong and not its value."""

    __slots__ = ("hint", "on_key", "path", "text")

    def __init__(self, path: Path, text: str, hint: str, on_key: bool = False) -> None:
        self.path = path
        self.text = text
        self.hint = hint
        self.on_key = on_key


class Deep:
    """A rule for a value that has parts: it knows where the value stands, and tells of every part that is wrong."""

    __slots__ = ("check",)

    def __init__(self, check: Callable[[object, Path, list[Problem]], Any]) -> None:
        self.check = check


def checked(name: str, given: Mapping[str, object]) -> dict[str, Any]:
    """Apply the rules to what the constructor of model `name` was given.

    Raises:
        UsageError: with all that is wrong, each as `Listen.port: expected ..., got ...`.
    """
    problems: list[Problem] = []
    at = (name,)
    result = config(given, at, problems) if name == "Config" else record(name.lower(), given, at, problems)
    if problems:
        first = problems[:MAX_PROBLEMS]
        hints = dict.fromkeys(problem.hint for problem in first)
        raise UsageError(listing([problem.text for problem in first], len(problems)), "\n".join(hints))
    return result


def record(kind: str, given: Mapping[str, object], at: Path, problems: list[Problem]) -> dict[str, Any]:
    """The rules of one table that is not the whole: those of its fields, and what these ask of each other."""
    result = apply(FIELDS[kind], given, at, problems)
    asked = [key for key in ("ca", "verify") if given.get(key) is not None]
    if kind in ("listen", "connect") and asked:
        if given.get("prot") == "tcp":
            for key in asked:
                text = 'expected prot = "tls" beside it, got "tcp", which has no certificates'
                hint = f'write prot = "tls", or remove `{key}`'
                problems.append(Problem((*at, key), f"{path_text((*at, key))}: {text}", hint, on_key=True))
        elif asked == ["verify"]:
            path = (*at, "verify")
            text = f"{path_text(path)}: expected `ca` beside it, which says whose certificates are believed"
            hint = 'add ca = ["..."], names in [roots]: the roots of the Stewards that judge the peer'
            problems.append(Problem(path, text, hint, on_key=True))
    return result


def apply(rules: Mapping[str, Any], given: Mapping[str, object], at: Path, problems: list[Problem]) -> dict[str, Any]:
    """Give the fields that have a rule and keep it; describe the others in `problems`."""
    result = {}
    for name, rule in rules.items():
        if name in given:
            path = (*at, name)
            if isinstance(rule, Deep):
                result[name] = rule.check(given[name], path, problems)
            else:
                result[name] = attempt(rule, given[name], path, problems)
    return result


def attempt(rule: Rule, value: object, path: Path, problems: list[Problem], on_key: bool = False) -> Any:
    """Apply a rule; None and one more problem when it refuses."""
    try:
        return rule(value)
    except RuleError as refused:
        problems.append(Problem(path, f"{path_text(path)}: {refused.text}", refused.hint, on_key))
        return None


def config(given: Mapping[str, object], at: Path, problems: list[Problem]) -> dict[str, Any]:
    """The rules of a whole configuration; `given` has all its fields, `files` and `limits` as models."""
    result = {
        "args": array(given["args"], string, "strings", MAX_ITEMS, (*at, "args"), problems),
        "env": variables(given["env"], (*at, "env"), problems),
        "steward": attempt(optional(steward), given["steward"], (*at, "steward"), problems),
        "steward_ca": attempt(optional(root_name), given["steward_ca"], (*at, "steward_ca"), problems),
        "roots": roots(given["roots"], (*at, "roots"), problems),
        "files": array(given["files"], file, "files", MAX_FILES, (*at, "files"), problems),
        "limits": attempt(limits, given["limits"], (*at, "limits"), problems),
    }
    if not problems:
        fitting(result["files"], result["limits"], at, problems)
        trusting(result, at, problems)
    return result


def trusting(result: Mapping[str, Any], at: Path, problems: list[Problem]) -> None:
    """Every root that is trusted somewhere must be in `roots`."""
    used: list[tuple[Path, str]] = []
    if result["steward_ca"] is not None:
        path = (*at, "steward_ca")
        if result["steward"] is None:
            text = f"{path_text(path)}: expected `steward` beside it, whose TLS it is for"
            problems.append(Problem(path, text, 'add steward = "https://...", or remove `steward_ca`', on_key=True))
        used.append((path, result["steward_ca"]))
    for number, entry in enumerate(result["files"]):
        for index, name in enumerate(getattr(entry, "ca", None) or ()):
            used.append(((*at, "files", number, "ca", index), name))
    for path, name in used:
        if name not in result["roots"]:
            near = nearest(name, result["roots"])
            hint = (
                f"did you mean {quote(near)}?" if near else f'add below a line [roots]: {path_text((name,))} = "FILE"'
            )
            problems.append(Problem(path, f"{path_text(path)}: expected a name in [roots], got {quote(name)}", hint))


def fitting(files: tuple[File, ...], limits: Limits, at: Path, problems: list[Problem]) -> None:
    """What fields ask of each other: the places of directories, their paths, and room for all descriptors."""
    seen: dict[str, int] = {}
    for number, entry in enumerate(files):
        if entry.kind != "dir":
            continue
        path = (*at, "files", number)
        first = next((i for i in range(3, number) if files[i].kind != "dir"), None)
        if number < 3:
            problems.append(
                Problem(
                    path,
                    f"{path_text(path)}: expected a dir at files[3] or later, got one at files[{number}]",
                    "programs look for directories from descriptor 3 on: put stdin, stdout and stderr (or null) first",
                )
            )
        elif first is not None:
            problems.append(
                Problem(
                    path,
                    f"{path_text(path)}: expected every dir before any other kind from files[3] on, "
                    f"got one after files[{first}] of kind {quote(files[first].kind)}",
                    "programs look for directories from descriptor 3 on and stop at the first other thing: "
                    f"move this entry before files[{first}]",
                )
            )
        guest = "/".join(part for part in entry.guest.split("/") if part not in ("", "."))
        guest = "/" + guest if entry.guest.startswith("/") else guest
        if guest in seen:
            problems.append(
                Problem(
                    (*path, "guest"),
                    f"{path_text((*path, 'guest'))}: expected a path of its own, "
                    f"got {quote(entry.guest)}, which files[{seen[guest]}] has too",
                    "a program would see only one of the two: give each directory its own guest path",
                )
            )
        seen.setdefault(guest, number)
    if limits.descriptors < len(files):
        path = (*at, "limits", "descriptors")
        problems.append(
            Problem(
                path,
                f"{path_text(path)}: expected at least {len(files)}, as many as there are files, "
                f"got {limits.descriptors}",
                "raise the limit, or remove files",
            )
        )


# Values that hold others


def array(
    value: object, rule: Rule, plural: str, most: int, path: Path, problems: list[Problem]
) -> tuple[Any, ...] | None:
    if not isinstance(value, (list, tuple)):
        hint = f"write it in brackets: [{quote(value)}]" if isinstance(value, str) else "write it in brackets: [...]"
        problems.append(Problem(path, f"{path_text(path)}: expected an array of {plural}, got {got(value)}", hint))
        return None
    if len(value) > most:
        problems.append(
            Problem(path, f"{path_text(path)}: expected at most {most} {plural}, got {len(value)}", "shorten the list")
        )
        return None
    return tuple(attempt(rule, item, (*path, number), problems) for number, item in enumerate(value))


def variables(value: object, path: Path, problems: list[Problem]) -> dict[str, str] | None:
    if not is_mapping(value):
        problems.append(
            Problem(
                path,
                f"{path_text(path)}: expected a table of strings, got {got(value)}",
                'write it as a section: [env], and below it lines like NAME = "value"',
            )
        )
        return None
    if len(value) > MAX_ITEMS:
        problems.append(
            Problem(path, f"{path_text(path)}: expected at most {MAX_ITEMS} variables, got {len(value)}", "remove some")
        )
        return None
    result = {}
    for key, item in value.items():
        place = (*path, str(key))
        if attempt(variable_name, key, place, problems, on_key=True) is not None:
            result[key] = attempt(string, item, place, problems)
    return result


def roots(value: object, path: Path, problems: list[Problem]) -> dict[str, str] | None:
    if not is_mapping(value):
        text = f"{path_text(path)}: expected a table of strings, got {got(value)}"
        hint = 'write it as a section: [roots], and below it lines like company = "company.pem"'
        problems.append(Problem(path, text, hint))
        return None
    if len(value) > MAX_ROOTS:
        text = f"{path_text(path)}: expected at most {MAX_ROOTS} roots, got {len(value)}"
        problems.append(Problem(path, text, "put several certificates into one file"))
        return None
    result = {}
    for key, item in value.items():
        place = (*path, str(key))
        if attempt(root_name, key, place, problems, on_key=True) is not None:
            result[key] = attempt(root, item, place, problems)
    return result


def is_mapping(value: object) -> TypeGuard[Mapping[Any, object]]:
    return hasattr(value, "keys") and hasattr(value, "items")


def file(value: object) -> object:
    if not isinstance(value, File):
        raise RuleError(
            f"expected one of {', '.join(kind.__name__ for kind in File.__args__)}, got {got(value)}",
            "make each entry with one of the classes of donjon.config",
        )
    return value


def limits(value: object) -> object:
    if not isinstance(value, Limits):
        raise RuleError(f"expected Limits, got {got(value)}", "make it with donjon.config.Limits")
    return value


def authorities(value: object, path: Path, problems: list[Problem]) -> tuple[str, ...] | None:
    """`ca`: names in `roots`, or the same as Enarx meant to write it: { custom = ["name"] }."""
    if value is None:
        return None
    if is_mapping(value):
        if list(value) != ["custom"]:
            text = f"{path_text(path)}: expected an array of names, or a table with the key custom alone, got a table"
            problems.append(Problem(path, text, 'write ca = ["name"], with names in [roots]'))
            return None
        value, path = value["custom"], (*path, "custom")
    names = array(value, root_name, "names in [roots]", MAX_ROOTS, path, problems)
    if names == ():
        text = f"{path_text(path)}: expected at least one name in [roots], got none"
        problems.append(Problem(path, text, "leave `ca` out to use none of them"))
    return names


def listed(rule: Rule, plural: str) -> Deep:
    """Alternatives of one demand. A list without any would demand nothing, or nothing that could ever hold."""

    def check(value: object, path: Path, problems: list[Problem]) -> tuple[Any, ...] | None:
        if isinstance(value, list) and not value:  # the default is a tuple
            text = f"{path_text(path)}: expected at least one of the {plural}, got none"
            problems.append(Problem(path, text, f"leave `{path[-1]}` out to accept any"))
            return None
        return array(value, rule, plural, MAX_DEMANDS, path, problems)

    return Deep(check)


def verify(value: object) -> object:
    if not isinstance(value, Verify):
        raise RuleError(f"expected Verify, got {got(value)}", "make it with donjon.config.Verify")
    return value


# Single values


def optional(rule: Rule) -> Rule:
    return lambda value: None if value is None else rule(value)


def word(*words: str) -> Rule:
    """One of a few words."""

    def rule(value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        near = nearest(value, words) if isinstance(value, str) else None
        raise RuleError(
            f"expected {one_of(words)}, got {got(value)}",
            f"did you mean {quote(near)}?" if near else "`donjon config init` writes a file that shows each of them",
        )

    return rule


def number(low: int, high: int, hint: str) -> Rule:
    def rule(value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        text = value.strip() if isinstance(value, str) else ""
        quoted = text.isascii() and text.isdigit() and len(text) <= 10 and low <= int(text) <= high
        raise RuleError(
            f"expected an integer from {low} to {high}, got {got(value)}",
            f"write it without quotes: {int(text)}" if quoted else hint,
        )

    return rule


def string(value: object, most: int = MAX_STRING) -> str:
    if not isinstance(value, str):
        shown = got(value)
        quotable = isinstance(value, (int, float)) and len(shown) <= 24
        hint = f'put it in quotes: "{shown}"' if quotable else 'write it in quotes: "..."'
        if is_mapping(value):
            hint = "a dot in a key makes a table, and so does [...]: put a key that has a dot in quotes"
        raise RuleError(f"expected a string, got {shown}", hint)
    if "\0" in value:
        raise RuleError(f"expected a string without NUL, got {quote(value)}", "remove the NUL: it ends strings in C")
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise RuleError(
            f"expected valid Unicode, got {quote(value)}", "remove the surrogate: a guest's strings are UTF-8"
        ) from None
    if length > most:
        raise RuleError(f"expected at most {most} bytes, got {length}", "shorten it")
    return value


def name(value: object) -> str:
    """A file's name; FD_NAMES joins them with ":"."""
    text = string(value, MAX_PATH)
    if ":" in text:
        raise RuleError(
            f'expected a name without ":", got {quote(text)}', 'FD_NAMES puts ":" between the names: use "-"'
        )
    return text


def variable_name(value: object) -> str:
    text = string(value)
    if text in ("FD_COUNT", "FD_NAMES"):
        raise RuleError("expected another name, got one that the Keep sets itself", "remove it")
    if not text or "=" in text:
        raise RuleError(
            f'expected a name that is not empty and has no "=", got {quote(text)}',
            'write NAME = "value" for NAME=value',
        )
    return text


def host_path(value: object) -> str:
    """A directory of this machine; its name may be any bytes, which Python writes as surrogates."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise RuleError(f"expected a path, got {got(value)}", 'write it like "/srv/data", or "." for here')
    try:
        length = len(os.fsencode(value))
    except UnicodeEncodeError:
        raise RuleError(f"expected a path, got {quote(value)}", "remove the surrogate") from None
    if length > MAX_PATH:
        raise RuleError(f"expected at most {MAX_PATH} bytes, got {length}", "choose a shorter path")
    return value


def guest_path(value: object) -> str:
    text = string(value, MAX_PATH)
    if not text or ".." in text.split("/"):
        raise RuleError(
            f'expected a path that is not empty and has no "..", got {quote(text)}',
            'write the path that the program uses, like "/data"',
        )
    return text


def endpoint(value: object) -> str:
    """A host name, an IPv4 or an IPv6 address."""
    text = string(value, 253)
    if text in ("::", "0.0.0.0", "::1", "127.0.0.1"):  # noqa: S104 - read, not bound
        return text  # most files have no other, and need not wait for `ipaddress`
    wanted = f"expected a host name or an address, got {quote(text)}"
    if "/" in text:
        raise RuleError(wanted, "write the host alone, without scheme and path")
    if "[" in text or "]" in text:
        raise RuleError(wanted, "write an IPv6 address without brackets; the port has a key of its own")
    if ":" in text or text.rpartition(".")[2].isdigit():
        return ip_address(text, wanted)
    if not text.isascii():
        raise RuleError(wanted, 'write the name in its ASCII form, the one that begins with "xn--"')
    for label in text.removesuffix(".").split("."):
        if not 1 <= len(label) <= 63 or not label.replace("-", "").replace("_", "").isalnum():
            raise RuleError(wanted, 'write it like "example.com", "127.0.0.1" or "::1"')
    return text


def ip_address(text: str, wanted: str) -> str:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        host, _, port = text.rpartition(":")
        separate = ":" not in host and port.isdigit()
        raise RuleError(
            wanted,
            f"the port has a key of its own: port = {port}" if separate else 'write it like "127.0.0.1" or "::1"',
        ) from None
    return text


def steward(value: object) -> str:
    """An https URL; Enarx refuses every other scheme, as the answer becomes the Keep's certificate."""
    from urllib.parse import urlsplit

    text = string(value, MAX_URL)
    wanted = f"expected an https URL, got {quote(text)}"
    if text.lower().startswith("http:"):
        raise RuleError(wanted, "a Steward is only spoken to over TLS: write https://...")
    example = 'write it like "https://steward.example.com"'
    if not text.lower().startswith("https://") or not all("!" <= letter <= "~" for letter in text):
        raise RuleError(wanted, example)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        endpoint(host)
    except (ValueError, RuleError):
        raise RuleError(wanted, example) from None
    if port == 0:
        raise RuleError(wanted, example)
    return text


def memory(value: object) -> int:
    """Bytes, or a text like "256 MiB"."""
    size = value
    if isinstance(value, str):
        digits, unit = value[:-3].rstrip(" "), value[-3:]
        size = int(digits) * UNITS[unit] if unit in UNITS and _is_count(digits) else None
    if isinstance(size, int) and not isinstance(size, bool) and MIN_MEMORY <= size <= MAX_MEMORY:
        return size
    hint = 'write "256 MiB", or a number of bytes'
    if isinstance(value, str):
        digits = value.rstrip(" KMGTkmgtiIBb")
        unit = value[len(digits) :].strip(" ")[:1].upper() + "iB"
        if unit in UNITS and _is_count(digits) and MIN_MEMORY <= int(digits) * UNITS[unit] <= MAX_MEMORY:
            hint = f'did you mean "{int(digits)} {unit}"?'
    raise RuleError(f"expected 64 KiB to 4 GiB, got {got(value)}", hint)


def _is_count(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) <= 10


def seconds(value: object) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_SECONDS:
        return float(value)
    raise RuleError(
        f"expected a number of seconds above 0 and up to {MAX_SECONDS}, got {got(value)}",
        "write it like 2 or 0.5; leave it out for no limit",
    )


def duration(value: object) -> int:
    """Seconds, or a text like "90m", "24h", "7d"."""
    found = value
    if isinstance(value, str) and value[-1:] in SECONDS and _is_count(value[:-1]):
        found = int(value[:-1]) * SECONDS[value[-1]]
    if isinstance(found, int) and not isinstance(found, bool) and 1 <= found <= MAX_AGE:
        return found
    raise RuleError(
        f'expected a time of at least a second, like "90m", "24h" or "7d", got {got(value)}',
        "leave it out to accept a judgement for as long as the certificate is valid",
    )


def yes_or_no(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = value.lower() if isinstance(value, str) else ""
    raise RuleError(
        f"expected true or false, got {got(value)}",
        f"write it without quotes: {text}" if text in ("true", "false") else "write true or false",
    )


def hexadecimal(lengths: tuple[int, ...], hint: str) -> Rule:
    """A digest of one of these numbers of digits; letters become small."""
    wanted = str(lengths[0]) if len(lengths) == 1 else f"{', '.join(map(str, lengths[:-1]))} or {lengths[-1]}"

    def rule(value: object) -> str:
        text = value.lower() if isinstance(value, str) else ""
        if len(text) in lengths and set(text) <= set("0123456789abcdef"):
            return text
        raise RuleError(f"expected {wanted} hexadecimal digits, got {got(value)}", hint)

    return rule


_digest = hexadecimal((64,), "`donjon workload digest` prints the digest of a workload")


def workload(value: object) -> str:
    text = str(_digest(value))
    if not text.strip("0"):
        hint = "all zeros is what evidence holds that names no workload"
        raise RuleError("expected the digest of a workload, got zeros alone", hint)
    return text


def peer_name(value: object) -> str:
    """A host name or an address, as certificates have it."""
    text = endpoint(value)
    if ":" in text or text.rpartition(".")[2].isdigit():
        from ipaddress import ip_address as read

        return str(read(text))
    return text.removesuffix(".").lower()


def tee(value: object) -> str:
    from donjon.tee import ALL  # loads what every verdict needs: only who demands a TEE pays for it

    if isinstance(value, str) and value in ALL:
        return value
    near = nearest(value, ALL) if isinstance(value, str) else None
    hint = f"did you mean {quote(near)}?" if near else "leave `tee` out to accept each of them"
    raise RuleError(f"expected {one_of(ALL)}, got {got(value)}", hint)


def root_name(value: object) -> str:
    text = string(value, 255)
    if not text:
        raise RuleError(
            'expected a name that is not empty, got ""', 'choose any: [roots], and below it company = "company.pem"'
        )
    return text


def root(value: object) -> str:
    """The path of a PEM file, or its text."""
    if isinstance(value, str) and PEM in value:
        return string(value)
    return str(host_path(value))


_PROT = word("tls", "tcp")

FIELDS: dict[str, dict[str, Any]] = {
    "null": {"name": name},
    "stdin": {"name": name},
    "stdout": {"name": name},
    "stderr": {"name": name},
    "listen": {
        "prot": _PROT,
        "name": name,
        "addr": endpoint,
        "port": number(0, 65535, "port 0 takes any free one; leave it out for 443 (tls) or 80 (tcp)"),
        "ca": Deep(authorities),
        "verify": optional(verify),
    },
    "connect": {
        "prot": _PROT,
        "name": name,
        "host": endpoint,
        "port": number(1, 65535, "write the port that the peer listens on; leave it out for 443 (tls) or 80 (tcp)"),
        "ca": Deep(authorities),
        "verify": optional(verify),
    },
    "dir": {"name": name, "host": host_path, "guest": guest_path, "mode": word("ro", "rw")},
    "limits": {
        "memory": optional(memory),
        "descriptors": number(1, MAX_COUNT, "leave it out for 4096"),
        "connections": number(0, MAX_COUNT, "leave it out for 4096"),
        "cpu": optional(seconds),
    },
    "verify": {
        "workload": listed(workload, "workload digests"),
        "names": listed(peer_name, "names"),
        "tee": listed(tee, "TEEs"),
        "measurement": listed(
            hexadecimal((64, 96, 128), "`donjon verify` prints the measurement of a Keep"), "measurements"
        ),
        "max_age": optional(duration),
        "accept_unattested": yes_or_no,
    },
}
SECTIONS = ("limits", "verify")  # those of FIELDS that are no kinds of file


# Words for messages


def listing(lines: list[str], count: int) -> str:
    """Join the lines of a message, which are the first of `count`."""
    rest = count - len(lines)
    return "\n".join([*lines, f"and {rest} more"] if rest else lines)


def path_text(path: Path) -> str:
    """Write a path as TOML would: `files[3].prot`, `env."A B"`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part.isascii() and part.replace("-", "").replace("_", "").isalnum() and len(part) <= 40
            text += ("." if text else "") + (part if bare else quote(part))
    return text


def got(value: object) -> str:
    """Say what a value is, briefly."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if value.bit_length() <= 64 else f"an integer of {value.bit_length()} bits"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "an array"
    if is_mapping(value):
        return "a table"
    if type(value).__module__ == "datetime":
        return f"a {type(value).__name__}"  # date, time or datetime
    return "nothing" if value is None else f"a value of type {type(value).__name__}"


def quote(text: str, most: int = 60) -> str:
    """Show at most `most` characters of a text in quotes, with nothing in it that a terminal would obey."""
    return f'"{escape(text if len(text) <= most else text[: most - 1] + "…").replace(chr(34), chr(92) + chr(34))}"'


def escape(text: str) -> str:
    """Write backslashes and what is not printable as TOML escapes do."""
    return "".join(
        letter
        if letter.isprintable() and letter != "\\"
        else {"\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(
            letter, f"\\u{ord(letter):04x}" if letter < "\U00010000" else f"\\U{ord(letter):08x}"
        )
        for letter in text
    )


def one_of(words: tuple[str, ...]) -> str:
    quoted = [quote(each) for each in words]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}"


def nearest(text: str, words: Iterable[str]) -> str | None:
    """The word that `text` was most likely meant to be, if there is one."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(text[:64].strip().lower(), list(words), 1)), None)
