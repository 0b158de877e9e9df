"""`donjon build`: from the sources in a directory to its main.wasm."""

from pathlib import Path
from tempfile import TemporaryDirectory

from donjon.errors import PlatformError, UsageError, words_of
from donjon.project.languages import MARKERS, TABLE
from donjon.project.sections import without_debug_sections

__all__ = ["OUTPUT", "build", "language_of"]

OUTPUT = "main.wasm"


def build(directory: str = ".") -> str:
    """Compile the project in `directory`. A failed build leaves an earlier main.wasm as it was.

    What the compiler says goes to stderr as it is.

    Args:
        directory: holds one of the files that tell a language, as main.c or go.mod.
    Returns:
        The path of the module, `directory` with main.wasm appended.
    Raises:
        UsageError: no such directory; no project in it, or more than one.
        PlatformError: the compiler is not installed (the hint says how to), or the directory cannot be written.
        ParseError: the compiler refused the sources.
    """
    project = Path(directory)
    compiler = TABLE[language_of(project)].compiler
    output = project / OUTPUT
    try:
        # A compiler that fails half-way must not leave half a module, and a rename needs the same file system.
        with TemporaryDirectory(prefix=".donjon-build-", dir=project) as scratch:
            made = compiler(project.resolve(), Path(scratch).resolve())
            ready = Path(scratch, "ready.wasm")
            ready.write_bytes(without_debug_sections(made.read_bytes()))
            ready.replace(output)
    except OSError as error:
        raise PlatformError(f"cannot write {output}: {words_of(error)}") from error
    return str(output)


def language_of(project: Path) -> str:
    """Return the name of the language that the project is in, by its marker file.

    Raises:
        UsageError: `project` is no directory, or holds no marker, or those of several languages.
    """
    if not project.is_dir():
        raise UsageError(f"cannot build {project}: no such directory")
    found = [marker for marker in MARKERS if (project / marker).is_file()]
    if len(found) == 1:
        return MARKERS[found[0]]
    if found:
        raise UsageError(
            f"cannot tell the language of {project}: expected one of {', '.join(MARKERS)}, found {' and '.join(found)}",
            hint="give each program a directory of its own",
        )
    raise UsageError(
        f"nothing to build in {project}: expected one of {', '.join(MARKERS)}",
        hint="`donjon new NAME --lang c` makes a project",
    )
