"""JSON is read in one way or not at all, and signed bytes are handed out as they came."""

import pytest

from donjon.errors import ParseError
from donjon.tee.intel.strictjson import MAX_BYTES, read, signature, split

SIGNATURE = "ab" * 64


def test_reads_what_intel_sends() -> None:
    assert read(b' {"a":[1,-2,true,null,"x\\u00e9"],"b":{}}\n', "list") == {"a": [1, -2, True, None, "xé"], "b": {}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a":1,"a":2}', "list: expected each key once, got 'a' twice"),
        (b'[{"a":{"b":1,"c":2,"b":1}}]', "list: expected each key once, got 'b' twice"),
        (b'{"a":1,"\\u0061":2}', "list: expected each key once, got 'a' twice"),
        (b"1.0", "list: expected a whole number, got 1.0"),
        (b"1e3", "list: expected a whole number, got 1e3"),
        (b"[NaN]", "list: expected a whole number, got NaN"),
        (b"-Infinity", "list: expected a whole number, got -Infinity"),
        (b"1" * 21, "list: expected a number of at most 20 digits, got 21 characters"),
        (b"{} {}", "list: expected the end at byte 2, got ' {}'"),
        (b"{}x", "list: expected the end at byte 2, got 'x'"),
        (b'["\\ud800"]', "list at character 2: expected whole characters, got \\ud800"),
        (b"", "list at character 0: expected JSON, got expecting value"),
        (b"{'a':1}", "list at character 1: expected JSON, got expecting property name enclosed in double quotes"),
        (b'["\n"]', "list at character 2: expected JSON, got invalid control character at"),
        (b"\xef\xbb\xbf{}", "list at character 0: expected JSON, got expecting value"),
        (b'"\xff"', "list at byte 1: expected UTF-8, got ff"),
        (b"[" * 17 + b"]" * 17, "list at character 16: expected at most 16 levels, got more"),
        (b'{"a":' * 17 + b"0" + b"}" * 17, "list at character 80: expected at most 16 levels, got more"),
        (b" " * (MAX_BYTES + 1), f"list: expected at most {MAX_BYTES} bytes, got {MAX_BYTES + 1}"),
    ],
)
def test_refuses(text: bytes, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        read(text, "list")
    assert caught.value.message == message


def test_brackets_within_strings_are_no_levels() -> None:
    assert read(b'"' + b"[" * 100 + b'\\"["', "list") == "[" * 100 + '"['


def test_sixteen_levels_are_not_too_many() -> None:
    read(b"[" * 16 + b"]" * 16, "list")


@pytest.mark.parametrize(
    "text",
    [
        '{"tcbInfo":{"b":1, "a":"é"},"signature":"%s"}',
        '{"signature":"%s","tcbInfo":{"b":1, "a":"é"}}',
        ' { "tcbInfo" : {"b":1, "a":"é"} , "signature" : "%s" }\n',
    ],
)
def test_cuts_signed_bytes_out_as_they_came(text: str) -> None:
    body, found = split((text % SIGNATURE).encode(), "tcbInfo", "answer")
    assert body == '{"b":1, "a":"é"}'.encode()
    assert found == bytes.fromhex(SIGNATURE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "answer: expected an object, got '[]'"),
        ("", "answer: expected an object, got ''"),
        ("{}", "expected JSON"),
        ('{"tcbInfo":{}}', "expected the members"),
        (
            '{"tcbInfo":{},"tcbInfo":{},"signature":"%s"}',
            'expected the members "tcbInfo" and "signature", got \'tcbInfo\'',
        ),
        ('{"tcbInfo":{},"signature":"%s","more":1}', "got 'more'"),
        ('{"tcbInfo":{"a":1,"a":1},"signature":"%s"}', "expected each key once"),
        ('{"tcbInfo":{},"signature":"%s"}x', "and nothing else"),
        ('{"tcbInfo":{},"signature":"%s"', 'expected "," or "}" at byte'),
        ('{"tcbInfo":{},"signature":"%s",}', "expected JSON"),
        ('{"tcbInfo" {},"signature":"%s"}', "expected the members"),
        ('{"tcbInfo":{},"signature":"00"}', "answer signature: expected 128 hex digits, got '00'"),
        ('{"tcbInfo":{},"signature":7}', "answer signature: expected 128 hex digits, got '7'"),
    ],
)
def test_refuses_to_cut(text: str, message: str) -> None:
    with pytest.raises(ParseError) as caught:
        split(text.replace("%s", SIGNATURE).encode(), "tcbInfo", "answer")
    assert message in caught.value.message


def test_a_signature_is_128_hex_digits() -> None:
    assert signature("AB" * 64, "it") == b"\xab" * 64
    for bad in ("ab" * 63, "ab" * 65, "zz" * 64, "ab " * 43, None, "٣" * 128):
        with pytest.raises(ParseError, match="it signature: expected 128 hex digits"):
            signature(bad, "it")
