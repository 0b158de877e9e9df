"""The frames: what is written is read again, and nothing else is read."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from donjon.errors import ParseError, UsageError
from donjon.sallyport import frames as f
from tests.sallyport.ends import SAMPLES


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_each_frame_is_read_as_it_was_written(kind: type[f.Frame]) -> None:
    data = SAMPLES[kind]
    frame = f.decode(kind, data[f.HEADER :])
    assert frame.encode() == data
    assert frame == f.decode(kind, data[f.HEADER :])
    assert hash(frame) == hash(f.decode(kind, data[f.HEADER :]))
    assert repr(frame).startswith(f"{kind.__name__}(")
    assert kind.LEAST <= len(data) - f.HEADER <= kind.MOST <= f.MAX_PAYLOAD


@pytest.mark.parametrize("kind", SAMPLES, ids=lambda kind: kind.__name__)
def test_a_frame_cut_anywhere_or_with_more_behind_it_is_refused(kind: type[f.Frame]) -> None:
    payload = SAMPLES[kind][f.HEADER :]
    some = any(isinstance(field, f.Rest) for field in kind.FIELDS.values())
    for end in range(0 if some else len(payload)):
        with pytest.raises(ParseError, match=rf"sallyport: {kind.__name__}\.\w+ at 0x"):
            f.decode(kind, payload[:end])
    if not some:
        with pytest.raises(ParseError, match=rf"{kind.__name__}\.end at 0x[0-9a-f]+: expected no more bytes, got 1"):
            f.decode(kind, payload + b"\0")


@pytest.mark.parametrize(
    ("kind", "payload", "message"),
    [
        (f.Log, b"\x06\1\0t\0\0", "Log.level at 0x000: expected a number from 1 to 5, got 6"),
        (f.Log, b"\x01\1\0\n\0\0", "Log.target at 0x001: expected printable text, got '\\n'"),
        (f.Log, b"\x01\1\0t\2\0\xc3\x28", "Log.message at 0x004: expected UTF-8, got c328"),
        (f.Log, b"\x01\1\0t\3\0\xe2\x80\xae", "expected printable text, got '\\u202e'"),
        (f.Log, b"\x01\1\0t\3\0\xed\xa0\x80", "expected UTF-8, got eda080"),
        (f.Log, b"\x01\1\0t\1\x20", "expected text of 0 to 8192 bytes, got 8193"),
        (f.Dial, b"\1\0\0\0\1\0h\0\0", "Dial.port at 0x007: expected a number from 1 to 65535, got 0"),
        (f.Failed, b"\4\0Oops\0\0\0\0", "Failed.family at 0x000: expected one of ParseError, UsageError"),
        (f.Failed, b"\x0c\0DonjonErrors\0\0\0\0", "expected one of ParseError"),
        (f.Failed, b"\x08\0BugError\1\0\x1b\0\0", "Failed.message at 0x00a: expected printable text, got '\\x1b'"),
        (f.Trap, b"\0\0\0\0\x41", "Trap.frames at 0x004: expected 0 to 64 of them, got 65"),
        (f.Hello, b"\0", "Hello.versions at 0x000: expected 1 to 16 of them, got 0"),
        (f.Credit, b"\x04\1\0\0\0", "Credit.stream at 0x000: expected a number from 0 to 3, got 4"),
        (f.Credit, b"\x01\0\0\0\0", "Credit.size at 0x001: expected a number from 1 to 4294967295, got 0"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_field_that_is_not_what_it_must_be_is_refused(kind: type[f.Frame], payload: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        f.decode(kind, payload)
    assert message in caught.value.message
    assert len(caught.value.message) < 300


def test_what_could_not_be_read_is_not_written() -> None:
    for frame, message in (
        (f.Dial(id=1, host="", port=1), r"Dial\.host: expected text of 1 to 1024 bytes, got 0"),
        (f.Dial(id=1, host="\udc80", port=1), "text that UTF-8 can hold"),
        (f.Dial(id=1, host="a\nb", port=1), "printable"),
        (f.Dial(id=1 << 32, host="a", port=1), "from 0 to 4294967295, got 4294967296"),
        (f.Dial(id=-1, host="a", port=1), "got -1"),
        (f.Hello(versions=(), variant="x", image=bytes(32)), "1 to 16 of them"),
        (f.Hello(versions=(1,), variant="x", image=bytes(31)), "32 bytes, got 31"),
        (f.Stdout(data=b""), "1 to 65536 bytes, got 0"),
        (f.Failed(family="Oops", message="", hint=""), "one of ParseError"),
    ):
        with pytest.raises(UsageError, match=message):
            frame.encode()


def test_a_frame_takes_its_fields_and_no_others() -> None:
    for values, named in (((1, 2, 3, 4), {}), ((), {"id": 1}), ((), {"id": 1, "host": "h", "port": 1, "more": 1})):
        with pytest.raises(TypeError, match="Dial takes id, host, port"):
            f.Dial(*values, **named)
    with pytest.raises(TypeError, match="Stop takes nothing"):
        f.Stop(1)  # type: ignore[call-arg]


@given(words=st.text(), most=st.integers(1, 40), breaks=st.booleans())
@settings(max_examples=200, deadline=None)
def test_every_text_can_be_made_to_fit(words: str, most: int, breaks: bool) -> None:
    made = f.fit(words, most, breaks)
    assert len(made.encode()) <= most
    assert (made.replace("\n", "") if breaks else made).isprintable()
    if words.isprintable() and len(words.encode()) <= most:
        assert made == words


def test_the_guest_imports_little() -> None:
    """Under emulation a module of the standard library takes up to a tenth of a second."""
    code = "import sys; before = set(sys.modules); import donjon.sallyport.io, donjon.sallyport.machine as m; "
    code += "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    done = subprocess.run([sys.executable, "-IS", "-c", f"import sys; sys.path = {sys.path!r}; {code}"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    heavy = {"typing", "dataclasses", "inspect", "re", "json", "struct", "msgspec", "ssl", "subprocess", "contextlib"}
    assert not heavy & set(done.stdout.split()), done.stdout
