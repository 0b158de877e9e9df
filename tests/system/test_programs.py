"""The programs of tests/programs, in every language and by others, each run by the command as `expected.py` says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import programs
from tests.programs.expected import CASES, GUEST_DIRECTORY, Case
from tests.system.command import config, donjon_run


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.title, marks=[pytest.mark.slow] if case.slow else []) for case in CASES],
)
def test_a_program_does_what_it_is_for(case: Case, tmp_path: Path) -> None:
    module = programs.path(case.program)
    entries = []
    if case.files is not None:
        folder = tmp_path / "data"
        folder.mkdir()
        for name, content in case.files.items():
            if name.endswith("/"):
                (folder / name).mkdir(parents=True)
            else:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
        entries = [f'kind = "dir"\nhost = "data"\nguest = "{GUEST_DIRECTORY}"\nmode = "rw"']
    variables = "".join(f'"{name}" = "{value}"\n' for name, value in case.env.items())
    toml = config(tmp_path, *entries, before=f"[env]\n{variables}" if variables else "")
    done = donjon_run("run", module, "--wasmcfgfile", toml, "--", *case.args, stdin=case.stdin, seconds=100)
    said = done.stderr.decode()
    if case.trap is None:
        assert (done.returncode, done.stdout) == (case.code, case.stdout), said
    else:
        assert done.returncode == 134, said
        assert done.stdout == case.stdout
        assert case.trap in said.splitlines()[0]
        at = -1
        for function in case.functions:
            at = said.index(f"  at {function}", at + 1)
