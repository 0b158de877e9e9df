"""Programs for the tests to run in Keeps: small ones of our own in every language, and real ones by others.

    from tests import programs
    with Keep.start(programs.path("echo-c"), config=...) as keep:

`build.py` says which there are and how each is made, `expected.py` what they print.
"""

import os
from pathlib import Path

__all__ = ["path"]


def path(name: str) -> Path:
    """Return the module of a program, made now if it is not there or its source has changed.

    Where a compiler is missing, or a download fails, the test is skipped with the reason; it fails where
    DONJON_CI is set, because there everything has to be installed.
    """
    import pytest

    from tests.programs.build import Unavailable, build

    try:
        return build(name)
    except Unavailable as error:
        if os.environ.get("DONJON_CI"):
            pytest.fail(f"{name}: {error}", pytrace=False)
        pytest.skip(f"{name}: {error}")
