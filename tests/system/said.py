"""What a Keep logs, for tests that wait for a line of it."""

from __future__ import annotations

import time

from donjon import Keep
from donjon.log import Logger


class Said:
    """What a Keep logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []
        self.logger = Logger(lambda level, _, text: self.lines.append((level, text)), "debug")

    def waited(self, keep: Keep, word: str) -> tuple[int, str]:
        """The first line with `word` in it, as soon as there is one."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            keep.poll()
            for line in self.lines:
                if word in line[1]:
                    return line
            time.sleep(0.01)
        raise AssertionError(f"no line with {word!r} in {self.lines}")
