"""`donjon new`: a project that builds and runs, as a place to start from."""

from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from donjon.errors import PlatformError, UsageError, words_of
from donjon.project.languages import LANGUAGES, TABLE

__all__ = ["new"]

MAX_NAME = 64
LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
NAME = LETTERS | frozenset("0123456789-_")

# Some packaging tools leave out files that begin with a dot.
RENAMED = {"gitignore": ".gitignore"}


def new(name: str, lang: str, parent: str = ".") -> str:
    """Make a project: a small service that greets its clients and sends back what they say, over TLS.

    Args:
        name: of the project and of its directory; lower-case letters, digits, '-' and '_', a letter first,
            at most 64 (what the package files of all languages take).
        lang: one of `LANGUAGES`.
        parent: an existing directory that gets the project's.
    Returns:
        The path of the project's directory.
    Raises:
        UsageError: a bad name or language; the directory exists already, or `parent` does not.
        PlatformError: the host refuses to write there.
    """
    check_name(name)
    check_language(lang)
    project = Path(parent, name)
    words = {"name": name, "title": TABLE[lang].title, "needs": TABLE[lang].needs}
    templates = files("donjon.project") / "templates"
    try:
        project.mkdir()
        for template in (templates / "common", templates / lang):
            copy(template, project, words)
    except FileExistsError as error:
        raise UsageError(f"{project} exists already", hint="choose another name, or remove it first") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UsageError(f"cannot make {project}: {parent} is no directory") from error
    except OSError as error:
        raise PlatformError(f"cannot make {project}: {words_of(error)}") from error
    return str(project)


def copy(template: Traversable, directory: Path, words: dict[str, str]) -> None:
    """Copy the files of a template, with `{{word}}` replaced."""
    for entry in template.iterdir():
        text = entry.read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace("{{" + word + "}}", value)
        (directory / RENAMED.get(entry.name, entry.name)).write_text(text, encoding="utf-8")


def check_name(name: str) -> None:
    """Refuse a name that some language's package file, a shell or a file system would stumble over."""
    if name[:1] in LETTERS and NAME.issuperset(name) and len(name) <= MAX_NAME:
        return
    likely = "".join(c if c in NAME else "-" for c in name.lower()).lstrip("0123456789-_")[:MAX_NAME]
    raise UsageError(
        f"project name {name!r}: expected lower-case letters, digits, '-' and '_', a letter first, at most {MAX_NAME}",
        hint=f"try {likely.strip('-')}" if likely.strip("-") else "try hello",
    )


def check_language(lang: str, where: str = "language") -> None:
    """Refuse an unknown language, and name the one that was probably meant: "cpp" for "C++"; `where` it was given."""
    if lang in TABLE:
        return
    titles = {TABLE[name].title.lower(): name for name in LANGUAGES}
    spellings = {**titles, **{name: name for name in LANGUAGES}, **ALIASES}
    near = get_close_matches(lang.lower(), spellings, n=1, cutoff=0.6)
    raise UsageError(
        f'{where}: expected one of {", ".join(LANGUAGES)}, got "{lang}"',
        hint=f'did you mean "{spellings[near[0]]}"?' if near else None,
    )


ALIASES = {"c++": "cpp", "cxx": "cpp", "cc": "cpp", "rs": "rust", "golang": "go", "as": "assemblyscript",
           "typescript": "assemblyscript", "ts": "assemblyscript", "wasm": "wat", "webassembly": "wat"}  # fmt: skip
