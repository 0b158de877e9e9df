"""What the programs print: cases as data, for whoever has a way to run them.

All of it was confirmed under the engine's own WASI, so a difference is ours. Cases that need sockets are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CASES", "GUEST_DIRECTORY", "Case"]

GUEST_DIRECTORY = "/data"  # where a case with `files` finds them; writable

SCRIPTS = Path(__file__).resolve().parent / "scripts"


@dataclass(frozen=True)
class Case:
    """One run of a program.

    `files` are put into an empty directory that the guest gets as GUEST_DIRECTORY; None means that it gets none.
    `trap` is a word of the message that a trap ends with; then `code` means nothing. `functions` are names that have to
    be in the backtrace, innermost first. stdout is compared as a whole.
    """

    title: str
    program: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    stdin: bytes = b""
    files: Mapping[str, bytes] | None = None
    stdout: bytes = b""
    code: int = 0
    trap: str | None = None
    functions: tuple[str, ...] = ()
    slow: bool = False  # more than a second, code not yet cached


def hello(language: str, title: str) -> Case:
    return Case(
        title=f"hello in {title} sees arguments, environment and stdin",
        program=f"hello-{language}",
        args=("one", "zwei", "три"),
        env={"WHO": "the tests", "OTHER": "thing"},
        stdin=b"0 1 2\n10\n90\n",
        stdout=f"hello from {title} args=3 one zwei три WHO=the tests\n".encode()
        + b"fib(0)=0\nfib(1)=1\nfib(2)=1\nfib(10)=55\nfib(90)=2880067194370816120\n",
        slow=language == "go",
    )


def fibonacci(language: str, title: str) -> list[Case]:
    """The codex's own two tests, and what happens to a word that is no number."""
    program, first = f"fibonacci-{language}", f"{title} - Fibonacci sequence example\n"
    return [
        Case(
            title=f"fibonacci in {title} takes its arguments",
            program=program,
            args=("7", "21"),
            stdout=f"{first}Fibonacci sequence number at index 7 is 13\n"
            "Fibonacci sequence number at index 21 is 10946\n".encode(),
            slow=language == "go",
        ),
        Case(
            title=f"fibonacci in {title} asks when it has none",
            program=program,
            stdin=b"25\n",
            stdout=f"{first}Enter a non-negative number:\nFibonacci sequence number at index 25 is 75025\n".encode(),
            slow=language == "go",
        ),
        Case(
            title=f"fibonacci in {title} ends with 1 when it cannot read a number",
            program=program,
            args=("many",),
            stdout=first.encode(),
            code=1,
            slow=language == "go",
        ),
    ]


def rot13(language: str, title: str) -> Case:
    return Case(
        title=f"rot13 in {title} without a listener is a filter",  # Enarx's test zerooneone
        program=f"rot13-{language}",
        stdin=b"Good morning, that's a nice tnetennba.\n0118 999 881 999 119 725 3\n",
        stdout=b"Tbbq zbeavat, gung'f n avpr gargraaon.\n0118 999 881 999 119 725 3\n",
    )


def trap(how: str, word: str) -> Case:
    return Case(
        title=f"a trap by {how} tells the functions it happened in",
        program="trap",
        args=(how,),
        stdout=b"about to trap\n",
        trap=word,
        functions=("innermost", "middle", "outermost"),
    )


def leaving(how: str, code: int, said: bool = True) -> Case:
    return Case(
        title=f"{how} {code} is the exit code",
        program="exit",
        args=(how, str(code)),
        stdout=f"leaving by {how}".encode() if said else b"",
        code=code,
    )


TITLES = {"c": "C", "cpp": "C++", "zig": "Zig", "rust": "Rust", "go": "Go", "assemblyscript": "AssemblyScript"}
WORDS = b"the cat and the dog\nand the bird\n"

CASES: tuple[Case, ...] = (
    Case(
        title="text is a program too",
        program="hello-wat",
        stdout=b"hello from WebAssembly\n",
    ),
    *(hello(language, title) for language, title in TITLES.items()),
    *(case for language in ("c", "cpp", "zig", "rust", "go") for case in fibonacci(language, TITLES[language])),
    rot13("c", "C"),
    rot13("zig", "Zig"),
    # arguments, environment, exit codes
    Case(
        title="arguments and environment arrive byte for byte and in order",
        program="dump",
        args=("", "two words", "ünï\n", "a" * 1000),
        env={"B": "2", "A": "", "C": "x=y z"},
        stdout="argv[0]=main.wasm\nargv[1]=\nargv[2]=two words\nargv[3]=ünï\n\nargv[4]=".encode()
        + b"a" * 1000
        + b"\nB=2\nA=\nC=x=y z\n",
    ),
    leaving("return", 0),
    leaving("return", 7),
    leaving("exit", 0),
    leaving("exit", 1),
    leaving("exit", 125),
    leaving("_exit", 31, said=False),
    Case(
        title="abort is a trap",
        program="exit",
        args=("abort",),
        trap="unreachable",
        functions=("abort",),
    ),
    # stdin and stdout
    Case(
        title="two mebibytes go through unchanged",  # Enarx's test echo
        program="cat",
        stdin=bytes(range(256)) * 8192,
        stdout=bytes(range(256)) * 8192,
    ),
    Case(title="an empty stdin ends at once", program="cat"),
    # memory
    Case(title="16 million bytes at once", program="memspike", stdout=b"16000000 bytes\n"),
    Case(title="memory up and down", program="stress", stdout=b"131 allocations\n"),
    Case(title="the host reaches memory as it grows", program="grow", args=("100",), stdout=b"grew by 100 pages\n"),
    # traps
    trap("unreachable", "unreachable"),
    trap("divide", "divide"),
    trap("memory", "out of bounds"),
    trap("null-call", "uninitialized"),
    Case(
        title="endless recursion is a trap",
        program="recurse",
        stdout=b"down we go\n",
        trap="stack",
        functions=("deeper",),
    ),
    Case(title="setjmp and longjmp", program="setjmp", stdout=b"sum 500500\n"),
    # time
    Case(title="sleeping takes its time", program="sleep", args=("50",), stdout=b"sleeping\nslept\n"),
    Case(
        title="clocks go forward and random bytes differ",
        program="clocks",
        stdout=b"realtime: forward, resolution ok\nmonotonic: forward, resolution ok\n"
        b"date: ok\nrandom: ok\nyield: OK\n",
    ),
    Case(
        title="poll_oneoff over clocks and stdio",
        program="polling",
        stdin=b"x\n",
        stdout=b"""\
monotonic, in 20 ms: clock 1
realtime, in 20 ms: clock 2
monotonic, at a time: clock 3
realtime, at a time: clock 4
monotonic, long ago: clock 5
at once: clock 6
the earlier of two: clock 8
stdin with data: read fedcba9876543210
stdin with data, or much later: read 9
stdout: write b
stdout and stderr: write c write d
stdin twice: read e read f
stdin at its end: read 10
nothing: EINVAL
a descriptor that is not open: EBADF
""",
    ),
    # files
    Case(
        title="files and directories, from creation to removal",
        program="files",
        args=(GUEST_DIRECTORY,),
        files={},
        stdout=b"""\
create a: OK
write: 12
seek to 7: 7
read: 5
text: world
read at the end: 0
seek back 5 from the end: 7
seek before the start: EINVAL
tell: 7
pwrite at 20: 1
pread at 0: 5
text: hello
tell: 7
fstat a: file, 21 bytes, 1 links
truncate to 5: 0
fstat a: file, 5 bytes, 1 links
sync: 0
datasync: 0
advise: 0
set times: 0
times: 1000000000 1234567890.500000000
close: 0
close again: EBADF
write when closed: EBADF
open a to append: OK
write: 4
seek to 0: 0
write: 3
read from what is for writing: EBADF
contents of a: one two
open a to read: OK
write to what is for reading: EBADF
refused to truncate what is for reading: 1
create a again: EEXIST
open a/: ENOTDIR
open a as a directory: ENOTDIR
open what is not there: ENOENT
create in what is not there: ENOENT
create below a file: ENOTDIR
mkdir d: 0
mkdir d again: EEXIST
mkdir d/e: 0
open d to write: EISDIR
open d: OK
refused to read d: 1
create f in d: OK
write: 5
list d: e/ f
rename d/f to d/e/g: 0
rename d/e/g to a: 0
contents of a: below
rename a to d: EISDIR
rename d into itself: EINVAL
link a b: 0
link a b again: EEXIST
stat b: file, 5 bytes, 2 links
symlink a to s: 0
symlink d/e to t: 0
symlink loop to loop: 0
readlink s: a
readlink a: EINVAL
readlink into 1 byte: 1
stat s: file, 5 bytes, 2 links
lstat s: link, 0 bytes, 1 links
contents of s: below
open s, no link: ELOOP
open loop: ELOOP
mkdir t/u: 0
list d/e: u/
list .: a b d/ loop@ s@ t@
unlink t: 0
refused to unlink d: 1
rmdir d: ENOTEMPTY
rmdir a: ENOTDIR
rmdir d/e/u: 0
rmdir d/e: 0
unlink a: 0
contents of s: ENOENT
stat b: file, 5 bytes, 1 links
unlink what is not there: ENOENT
unlink loop: 0
unlink s: 0
open b: OK
unlink b while it is open: 0
still there: below
list .: d/
created: 300
list d: 300 entries from 000-0 to 299-0
left: 0
rmdir d: 0
create a name of 299 letters: ENAMETOOLONG
stat ..: refused
stat ../x: refused
stat ../../../../../../etc/passwd: refused
stat d/../../x: refused
stat /etc/passwd: refused
stat /: refused
symlink to /etc: refused
symlink to ../..: refused
rename out: refused
in and out again: found
rmdir d: 0
list .:
""",
    ),
    # programs by others
    Case(
        title="CPython works through its standard library",
        program="python",
        args=(f"{GUEST_DIRECTORY}/work.py", "a", f"{GUEST_DIRECTORY}/home"),
        env={"WHO": "me"},
        stdin=WORDS,
        files={"work.py": (SCRIPTS / "work.py").read_bytes(), "home/": b""},
        stdout="""\
wasi (3, 12) ['a', '/data/home'] me
words: [('the', 3), ('and', 2)]
wrapped: ['the cat and the dog', 'and the bird']
digest: e5760aad5448ff41
json: {"a": "\\u00fc", "b": [1, 2.5, null]}
numbers: 1267650600228229401496703205376 0.1428571428571428571428571429 1/2
packed: b'\\x00\\x07?\\xe0\\x00\\x00\\x00\\x00\\x00\\x00'
heap: [5, 5, 8]
random: 331 100 5
date: 2024-03-01 True
slept: True
csv: [{'name': 'a, b', 'size': '1'}, {'name': 'ä', 'size': '2'}]
walk: [('one', []), ('two', ['three.txt'])]
size: 2000
moved: b'3\\n4'
temporary: 100000
FileNotFoundError
PermissionError
FileNotFoundError
left: []
hanoi: 1023 ac
error: fileno
too deep
""".encode(),
        code=3,
        slow=True,
    ),
    Case(
        title="Lua works through its standard library",
        program="lua",
        args=(f"{GUEST_DIRECTORY}/work.lua", "a", GUEST_DIRECTORY),
        env={"WHO": "me"},
        stdin=WORDS,
        files={"work.lua": (SCRIPTS / "work.lua").read_bytes()},
        stdout="""\
Lua 5.3	2	a	me
words:	the	3	5
gsub:	Hello World
format:	 3.14|ab    |ff|"a\\
b"
integers:	9223372036854775807	true	3	-4	-2	4611686018427387904
utf8:	5	€
pack:	-2	5
primes:	5736396
pcall:	true	plain
nested:	true	false	inner
runtime:	attempt to index a nil value (local 't')
deep:	10000	true
collected:	1
file:	100	500500
seek:	3893	2	2	3
rename:	true
missing:	true
outside:	true	true
remove:	true
time:	11574	true
""".encode(),
        code=3,
    ),
    Case(
        title="QuickJS works through the language",
        program="quickjs",
        args=(f"{GUEST_DIRECTORY}/work.js", f"{GUEST_DIRECTORY}/work.js", "b"),
        stdin=WORDS,
        files={"work.js": (SCRIPTS / "work.js").read_bytes()},
        stdout="""\
arguments: ["/data/work.js","b"]
words: the 3 5
primes: 5736396
numbers: 0.30000000000000004 1e+21 ff 9007199254740991 1234.57 -1 3
strings: 6 3 abx STRASSE
match: 29.02.2024 42
json: {"b":[1,null,"ü"],"a":{"d":"1970-01-01T00:00:00.000Z"}}
class: 720 1
proxy: no thing 0
caught: true cannot read property 'x' of null
sorted: 1,10,9 1,9,10
file: 64
outside: cannot read /etc/passwd
time: true 2001-09-09T01:46:40.000Z
first
later: 1
later: 2
all: 2,4
finally: the end
""".encode(),
        slow=True,
    ),
    Case(
        title="SQLite keeps a database in a file",
        program="sqlite",
        args=(f"{GUEST_DIRECTORY}/places.db",),
        stdin=(SCRIPTS / "work.sql").read_bytes(),
        files={},
        stdout="""\
Ben Nevis|1344.5
Snowdon|1085.0
4|3407.5|Sno-Ben-Sca-Zug
20000|hill 20000|482.077
3|0|61|SEARCH places USING INDEX by_height (height=?)
9654958.5
ok
4
deep|GRüN|blob|3|3.5
error: UNIQUE constraint failed: places.name
""".encode(),
        code=1,
        slow=True,
    ),
)
