"""Digests of trees: Drawbridge's own golden values, and what must change them."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256

import pytest

from donjon.workload.tree import CONFIG, DIRECTORY, MAIN, File, canonical, digest, directory, package

EMPTY_MODULE = b"\0asm\1\0\0\0"

Tree = dict[str, "bytes | Tree"]

TWO: Tree = {"test-file-foo": b"foo", "test-dir": {"test-file-bar": b"bar"}}
ELEVEN: Tree = {
    "tEst-file..__.foo.42.": b"invalidext",
    "test-dir-1": {
        "test-file": b"test",
        "test-file.txt": b"text",
        "test-subdir-1": {},
        "test-subdir-2": {"test-file": b"test"},
    },
    "test-file": b"no extension",
    "test-file.json": b"not valid json",
    "test-file.txt": b"text",
}


def written(tree: Tree) -> bytes:
    """The JSON of a tree's root, made from the leaves up."""
    return directory(
        {
            name: File.named(name, inside) if isinstance(inside, bytes) else File(written(inside), DIRECTORY)
            for name, inside in tree.items()
        }
    )


@pytest.mark.parametrize(
    ("tree", "length", "root", "tag_length", "tag"),
    [
        (
            {},
            2,
            "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o=",
            365,
            "xgrV47JBrmt00TMrHkoVBYor5/9stSjCTZJPnbSV8nI=",
        ),
        (
            TWO,
            742,
            "2sEkTVVLPkT8pUNfBNVqiu5a2CogIEB1aJvHUA2IjcE=",
            367,
            "UM1aWwEB6ZxKzNrXLZv6ElFVvQ4BBo1dU/tLiCSKe6A=",
        ),
        (
            ELEVEN,
            1839,
            "e6P7uIx6oVGGjblE+T2ONtCrHDb86RzL3e5B1vuwoHg=",
            368,
            "xMmrWF6q4wsgDRuLLR2CexLQqvjNflEjJttVUaSJpCI=",
        ),
    ],
    ids=["an empty directory", "a file and a directory with one", "eleven nodes"],
)
def test_roots_and_tags_are_drawbridges(tree: Tree, length: int, root: str, tag_length: int, tag: str) -> None:
    content = written(tree)
    assert len(content) == length
    assert sha256(content).digest() == b64decode(root)
    body = canonical(File(content, DIRECTORY).entry())
    assert len(body) == tag_length
    assert sha256(body).digest() == b64decode(tag)


def test_a_package_of_two_files_is_the_directory_that_enarx_publishes() -> None:
    """Its example has an Enarx.toml of 79 bytes and a main.wasm of 53,966, and a root of 707."""
    main, config = File.named(MAIN, b"x" * 53_966), b"x" * 79
    content = directory({MAIN: main, CONFIG: File.named(CONFIG, config)})
    assert len(content) == 707
    assert content.startswith(b'{"Enarx.toml":{"digest":{"sha-224":"')
    assert b'"length":79,"type":"application/toml"},"main.wasm":{' in content
    assert content.endswith(b'"length":53966,"type":"application/wasm"}}')
    assert package(main, config) == sha256(content).digest() == digest({CONFIG: File.named(CONFIG, config), MAIN: main})


def test_a_package_without_a_configuration_is_another_one_than_with_an_empty_one() -> None:
    main = File.named(MAIN, EMPTY_MODULE)
    assert package(main) == digest({MAIN: main})
    assert package(main) != package(main, b"")


def test_the_order_in_which_entries_are_given_does_not_matter() -> None:
    one, two = File.named("a", b"1"), File.named("B", b"2")
    assert directory({"a": one, "B": two}) == directory({"B": two, "a": one})
    assert directory({"a": one, "B": two}).index(b'"B"') < directory({"a": one, "B": two}).index(b'"a"')


def test_canonical_json_has_one_form_for_any_text() -> None:
    assert canonical({"b": ["é", "\n"], "a": {}}) == '{"a":{},"b":["é","\\n"]}'.encode()
    assert canonical(["\udcff"]) == b'["\\udcff"]'  # a byte of an argument that is no UTF-8
    assert canonical({"\uffff": 1, "\U00010000": 2}).startswith(b'{"\xef\xbf\xbf"')  # by code point
