"""Mutation that knows structure: DER, CBOR and JSON are taken apart, one element is changed, lengths are made right.

Bytes that are changed blindly break a length somewhere and get no further than the first head. Everything here follows
from the seed. What cannot be taken apart is given back as None, for others to change as bytes. Nothing recurses.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cbor2

from donjon.errors import ParseError
from donjon.wire.der import Der, encode

Mutator = Callable[[bytes, random.Random], bytes | None]

MOST_ELEMENTS = 3000
LIMITS = [0, 1, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]


def bits(data: bytes, dice: random.Random) -> bytes:
    """Change some bytes: a bit, an extreme, a piece cut out, doubled or moved."""
    made = bytearray(data or b"\0")
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        at = dice.randrange(len(made) + 1)
        size = dice.choice((1, 1, 2, 4, 8, 16, 48))
        match dice.randrange(6):
            case 0 if at < len(made):
                made[at] ^= 1 << dice.randrange(8)
            case 1 if at < len(made):
                made[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
            case 2:
                del made[at : at + size]
            case 3:
                made[at:at] = made[at : at + size]
            case 4:
                made[at : at + size] = bytes(len(made[at : at + size]))
            case _:
                made[at:at] = dice.randbytes(size)
    return bytes(made)


# DER


@dataclass
class Node:
    """A value: its content, or the values in it. `lead` stands before them: the count of unused bits."""

    tag: int
    content: bytes = b""
    inside: list[Node] | None = None
    lead: bytes = b""
    done: bytes = field(default=b"", repr=False)


def der(data: bytes, dice: random.Random) -> bytes | None:
    """Change one value of a DER encoding, also within strings that hold DER."""
    top = taken_apart(data)
    if top is None:
        return None
    nodes = flat(top)
    parents = [node for node in nodes if node.inside is not None]
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        node, parent = dice.choice(nodes), dice.choice(parents)
        inside = parent.inside if parent.inside is not None else []
        match dice.randrange(9):
            case 0 if inside:
                inside.pop(dice.randrange(len(inside)))
            case 1 if inside:
                inside.insert(dice.randrange(len(inside) + 1), dice.choice(inside))
            case 2 if inside:
                one, other = dice.randrange(len(inside)), dice.randrange(len(inside))
                inside[one], inside[other] = inside[other], inside[one]
            case 3:
                node.tag = dice.choice((0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x17, 0x30, 0x31, 0x80, 0xA0, 0xA3))
            case 4 if inside:
                leaves = [one for one in nodes if one.inside is None]
                inside[dice.randrange(len(inside))] = dice.choice(leaves) if leaves else Node(0x05)
            case 5:
                inside.append(Node(dice.choice((0x02, 0x04, 0x05, 0x30)), dice.choice((b"", b"\0", b"\x80" * 9))))
            case 6:
                depth = dice.choice((1, 3, 40))
                held = node.content if node.inside is None else b""
                for _ in range(depth):
                    held = encode(0x30, held)
                node.content, node.inside = held, None
            case _:
                if node.inside is None:
                    node.content = bits(node.content, dice)
    return written(top)


def taken_apart(data: bytes) -> Node | None:
    """The tree of values in `data`, below a node that has no tag; None when it is no DER."""
    top = Node(0, inside=[])
    todo = [(top, data)]
    count = 0
    while todo:
        parent, content = todo.pop()
        source = Der(content, "mutated")
        found: list[Node] = []
        try:
            while source.left:
                tag = source.tag
                found.append(Node(tag, source.take(0, "")))
                count += 1
                if count > MOST_ELEMENTS:
                    return None
        except ParseError:
            if parent is top:
                return None
            continue  # it only looked as if there were values in it
        parent.inside, parent.content = found, b""
        for node in found:
            lead = 1 if node.tag == 0x03 and node.content[:1] == b"\0" else 0
            if node.tag & 0x20 or (node.tag in (0x03, 0x04) and node.content[lead : lead + 1] in (b"\x30", b"\x02")):
                node.lead = node.content[:lead]
                todo.append((node, node.content[lead:]))
                if not node.content[lead:]:
                    node.inside = []
    return top


def flat(top: Node) -> list[Node]:
    """All nodes, parents first."""
    nodes = [top]
    for node in nodes:
        nodes += node.inside or ()
    return nodes


def written(top: Node) -> bytes:
    """The encoding, with lengths that are right. A value may stand in several places, but not within itself."""
    for node in reversed(flat(top)):
        content = node.content if node.inside is None else node.lead + b"".join(one.done for one in node.inside)
        node.done = encode(node.tag, content) if node is not top else content
    return top.done


# Values, as of CBOR and JSON


def changed(value: Any, dice: random.Random, strange: Callable[[random.Random], Any]) -> Any:
    """A copy of `value` with one element changed. Depth is that of what a parser took, so small."""
    path: list[tuple[Any, Any]] = []
    here = value
    while isinstance(here, list | dict) and here and dice.random() < 0.85:
        key = dice.randrange(len(here)) if isinstance(here, list) else dice.choice(list(here))
        path.append((here, key))
        here = here[key]
    if not path:
        return strange(dice)
    holder, key = path[-1]
    match dice.randrange(6):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(key, here)
        case 1:
            holder[strange(dice) if dice.random() < 0.5 and not isinstance(key, str) else f"{key}x"] = here
        case 2 if isinstance(here, bytes):
            holder[key] = bits(here, dice)
        case 2 if isinstance(here, str):
            holder[key] = bits(here.encode(errors="replace"), dice).decode(errors="replace")
        case 2 if isinstance(here, int):
            holder[key] = dice.choice(LIMITS) * dice.choice((1, -1))
        case _:
            holder[key] = strange(dice)
    return value


def cbor(data: bytes, dice: random.Random) -> bytes | None:
    """Change one element of CBOR, also within byte strings that hold CBOR."""
    around: list[tuple[Any, Any, Any]] = []  # value, and where in it the bytes stand that are changed
    while True:
        try:
            value = cbor2.loads(data)
        except (cbor2.CBORError, RecursionError, ValueError):
            return None
        inner = [(holder, key) for holder, key in held(value) if holds_cbor(holder[key])]
        if not inner or dice.random() < 0.3:
            break
        holder, key = dice.choice(inner)
        around.append((value, holder, key))
        data = holder[key]
    try:
        if isinstance(value, cbor2.CBORTag) and dice.random() < 0.9:
            made: Any = cbor2.CBORTag(value.tag, changed(value.value, dice, strange_cbor))
        else:
            made = changed([value], dice, strange_cbor)
            made = made[0] if isinstance(made, list) and made else None
        new = cbor2.dumps(made)
        for whole, holder, key in reversed(around):
            holder[key] = new
            new = cbor2.dumps(whole)
    except (cbor2.CBOREncodeError, RecursionError, ValueError, TypeError):
        return None
    return new


def held(value: Any) -> list[tuple[Any, Any]]:
    """Where elements stand: container and key."""
    found: list[tuple[Any, Any]] = []
    todo = [value]
    while todo and len(found) < MOST_ELEMENTS:
        here = todo.pop()
        if isinstance(here, cbor2.CBORTag):
            todo.append(here.value)
        elif isinstance(here, list | dict):
            keys = range(len(here)) if isinstance(here, list) else list(here)
            found += [(here, key) for key in keys]
            todo += [here[key] for key in keys]
    return found


def holds_cbor(value: object) -> bool:
    """Whether bytes look like an array, a map or a tag."""
    return isinstance(value, bytes) and len(value) > 1 and value[0] >> 5 in (4, 5, 6)


def strange_cbor(dice: random.Random) -> Any:
    """Something that is seldom expected."""
    nested: Any = 0
    for _ in range(dice.choice((1, 2, 20))):
        nested = [nested]
    return dice.choice(
        (None, True, 1.5, "", "sha-256", bytes(32), bytes(33), dice.randbytes(9), nested, {}, {1: 2}, {"a": b""},
         cbor2.CBORTag(dice.choice((1, 2, 18, 399)), b""), dice.choice(LIMITS), -dice.choice(LIMITS))
    )  # fmt: skip


def as_json(data: bytes, dice: random.Random) -> bytes | None:
    """Change one element of JSON; sometimes a name comes twice."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    made = changed([value], dice, strange_json)
    text = json.dumps(made[0] if isinstance(made, list) and made else None)
    if dice.random() < 0.05:
        text = text.replace('{"', '{"a":1,"a":2,"', 1)
    return text.encode()


def strange_json(dice: random.Random) -> Any:
    """Something that is seldom expected."""
    nested: Any = 0
    for _ in range(dice.choice((1, 2, 70))):
        nested = [nested] if dice.random() < 0.5 else {"a": nested}
    return dice.choice(
        (None, True, 1.5, 1e300, "", "00", "F" * 96, "2026-11-23T12:00:00Z", "9999-99-99T99:99:99Z", "\ud800", "\0",
         "UpToDate", "Revoked", [], {}, nested, dice.choice(LIMITS), -dice.choice(LIMITS), 10**30)
    )  # fmt: skip


def either(data: bytes, dice: random.Random) -> bytes | None:
    """As what it looks like; the first byte of a target may choose what the rest is."""
    return der(data, dice) or as_json(data, dice) or cbor(data, dice)


MUTATORS: dict[str, Mutator] = {"der": der, "cbor": cbor, "json": as_json, "any": either, "bytes": bits, "text": bits}
