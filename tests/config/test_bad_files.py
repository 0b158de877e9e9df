"""Every file in `bad/` is refused with exactly the lines that its own first lines promise.

A file begins with `# expect: ` for each line of the message, then `# hint: ` for each line of the hint.
"""

from pathlib import Path

import pytest

from donjon.config import parse
from donjon.errors import ParseError

FILES = sorted((Path(__file__).parent / "bad").glob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_refuses_a_bad_file_as_it_promises(path: Path) -> None:
    text = path.read_text("utf-8")
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert caught.value.message.split("\n") == promised(text, "# expect: ")
    assert (caught.value.hint or "").split("\n") == promised(text, "# hint: ")


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_finds_the_same_places_with_other_line_ends_and_a_byte_order_mark(path: Path) -> None:
    text = path.read_text("utf-8")
    with pytest.raises(ParseError) as caught:
        parse("\ufeff" + text.replace("\n", "\r\n"))
    assert caught.value.message.split("\n") == promised(text, "# expect: ")


def promised(text: str, start: str) -> list[str]:
    return [line.removeprefix(start) for line in text.split("\n") if line.startswith(start)]


def test_the_corpus_is_there() -> None:
    assert len(FILES) >= 90
