# ruff: noqa: T201 - this runs in a Keep, and printing is how it answers
"""A morning's work for CPython in a Keep: text, numbers, time, randomness, files, errors."""

import collections
import csv
import datetime as dt
import decimal
import fractions
import hashlib
import heapq
import io
import itertools
import json
import os
import random
import re
import struct
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

print(sys.platform, sys.version_info[:2], sys.argv[1:], os.environ.get("WHO"))

text = sys.stdin.read()
words = collections.Counter(re.findall(r"[a-z]+", text.lower()))
print("words:", words.most_common(2))
print("wrapped:", textwrap.wrap(text.strip(), 20))
print("digest:", hashlib.sha256(text.encode()).hexdigest()[:16])
print("json:", json.dumps(json.loads('{"b": [1, 2.5, null], "a": "\\u00fc"}'), sort_keys=True))
print("numbers:", 2**100, decimal.Decimal(1) / 7, fractions.Fraction(1, 3) + fractions.Fraction(1, 6))
print("packed:", struct.pack(">Hd", 7, 0.5))
print("heap:", heapq.nsmallest(3, itertools.accumulate([5, 3, 8, 1], max)))
random.seed(7)
print("random:", random.randrange(1000), len({uuid.uuid4() for _ in range(100)}), len(os.urandom(5)))
print("date:", dt.date(2024, 2, 28) + dt.timedelta(days=2), time.time() > 1.7e9)
before = time.monotonic()
time.sleep(0.02)
print("slept:", time.monotonic() - before >= 0.02)

# The guest's directory is the second argument.
home = Path(sys.argv[2])
table = home / "table.csv"
with table.open("w", newline="") as file:
    csv.writer(file).writerows([["name", "size"], ["a, b", 1], ["ä", 2]])
with table.open(newline="") as file:
    print("csv:", list(csv.DictReader(file)))
nested = home / "one" / "two"
nested.mkdir(parents=True)
(nested / "three.txt").write_text("3\n" * 1000)
print("walk:", [(Path(path).name, sorted(files)) for path, _, files in os.walk(home / "one")])
print("size:", (nested / "three.txt").stat().st_size)
(nested / "three.txt").rename(home / "moved.txt")
with (home / "moved.txt").open("r+b") as binary:
    binary.seek(-2, io.SEEK_END)
    binary.write(b"4")
    binary.truncate(1999)
print("moved:", (home / "moved.txt").read_bytes()[-3:])
nested.rmdir()
nested.parent.rmdir()
with tempfile.TemporaryFile(dir=home) as binary:
    binary.write(b"x" * 100_000)
    print("temporary:", binary.tell())
for path in ("missing.txt", "../../etc/passwd", "/etc/passwd"):
    try:
        (home / path).read_text()
        print("read", path)
    except OSError as error:
        print(type(error).__name__)
table.unlink()
(home / "moved.txt").unlink()
print("left:", sorted(path.name for path in home.iterdir()))


class Silent(io.RawIOBase):
    """A file without a descriptor."""


def hanoi(height: int, source: str = "a", target: str = "c", spare: str = "b") -> Iterator[str]:
    if height:
        yield from hanoi(height - 1, source, spare, target)
        yield source + target
        yield from hanoi(height - 1, spare, target, source)


def dive(depth: int) -> int:
    return dive(depth + 1) + 1


print("hanoi:", sum(1 for _ in hanoi(10)), next(hanoi(3)))
try:
    Silent().fileno()
except io.UnsupportedOperation as error:
    print("error:", error)
try:
    dive(0)
except RecursionError:
    print("too deep")
sys.exit(3)
