"""What the host hands over, and that it is what the launch descriptor says: before any of it is parsed.

The descriptor has come first, and where this is a TEE, its digest was compared with what the hardware says the launcher
named. It has the digest of the package and of each file of roots, so every byte of a file counts:

    main.wasm       with Enarx.toml, if the package has one, it makes the package's digest
    Enarx.toml
    roots/<name>    SHA-256 as the descriptor has it; no others come

What a workload trusts in a text of its own (PEM in Enarx.toml) is the package's already. Options are not measured: they
are what the host may decide anyway, as it decides whether a Keep runs.
"""

from __future__ import annotations

from donjon.errors import ParseError, UsageError, VerifyError
from donjon.log import DEFAULT, parse_filter, printable
from donjon.sums import sha256
from donjon.workload import Descriptor, File, package
from donjon.workload.canonical import parse
from donjon.workload.tree import CONFIG, MAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from donjon.keep.launch import Launch

__all__ = ["ROOTS", "Workload", "read_options"]

ROOTS = "roots/"
MOST_OPTIONS = 4096
OPTIONS = {"attest": str, "log": str, "name": str}


def read_options(data: bytes) -> dict[str, object]:
    """The options of a launch: how much is logged, whose evidence to have, what messages call the module.

    Raises:
        ParseError: they are not a flat object of these; UsageError: a value cannot be one.
    """
    if len(data) > MOST_OPTIONS:
        raise ParseError(f"launch options: expected at most {MOST_OPTIONS} bytes, got {len(data)}")
    try:
        found = parse(data)
    except (ValueError, RecursionError) as error:
        raise ParseError("launch options: expected JSON in UTF-8, got something else") from error
    if not isinstance(found, dict) or not all(
        name in OPTIONS and type(value) is OPTIONS[name] for name, value in found.items()
    ):
        raise ParseError(f"launch options: expected an object with any of {', '.join(OPTIONS)}")
    options: dict[str, object] = {"attest": "auto", "log": DEFAULT, "name": MAIN, **found}
    parse_filter(str(options["log"]), "launch options: log")
    return options


class Workload:
    """A launch that came through the sallyport, and fits its descriptor.

    Args:
        descriptor: as it was accepted.
        files: name -> content of all that came.
    Raises:
        VerifyError: a file is missing, too many, or not the one that the descriptor means.
    """

    def __init__(self, descriptor: Descriptor, options: Mapping[str, object], files: Mapping[str, bytes]) -> None:
        if MAIN not in files:
            raise VerifyError(f"launch: expected the file {MAIN}, got none")
        for name in sorted(set(files) - {MAIN, CONFIG} - {ROOTS + name for name in descriptor.roots}):
            raise VerifyError(f"launch: got the file {printable(name)}, which the descriptor does not name")
        self.main = File.named(MAIN, files[MAIN])
        found = package(self.main, files.get(CONFIG))
        if found != descriptor.package:
            raise VerifyError(
                f"launch: expected the package {descriptor.package.hex()}, got {found.hex()}",
                "main.wasm or Enarx.toml is not the one that the launch descriptor was made of",
            )
        for name, digest in descriptor.roots.items():
            if ROOTS + name not in files:
                continue  # Enarx.toml has it in line, or `launch` misses it
            came = sha256(files[ROOTS + name])
            if came != digest:
                raise VerifyError(
                    f"launch: expected roots.{printable(name)} with SHA-256 {digest.hex()}, got {came.hex()}"
                )
        self.descriptor = descriptor
        self.options = options
        self.files = dict(files)

    def forget_module(self) -> None:
        """Let go of the module's bytes, of which the Keep's process has its own."""
        del self.files[MAIN]

    def launch(self, tsm: str) -> Launch:
        """The launch, rebuilt: parsed only here, in the process that it is for.

        Raises:
            ParseError, UsageError: Enarx.toml or a file of roots is not what it must be, or cannot be had here.
            VerifyError: what was rebuilt is not what the descriptor describes.
        """
        from donjon.keep.launch import Launch

        config = None
        toml = self.files.get(CONFIG)
        if toml is not None:
            from donjon import config as configuration

            try:
                config = configuration.parse(toml.decode())
            except UnicodeDecodeError as error:
                raise ParseError(f"{CONFIG}: expected UTF-8, got {toml[error.start : error.start + 4].hex()}") from None
            config = config.replace(roots={name: self._root(name, value) for name, value in config.roots.items()})
        launch = Launch(
            self.files.get(MAIN, b""),
            config,
            self.descriptor.args,
            self.descriptor.env,
            str(self.options["attest"]),
            None,
            tsm,
            toml,
            self.descriptor.output,
        )
        launch.name = printable(str(self.options["name"])[:200])
        launch.main = self.main
        launch.check_enclosed()
        if launch.describe().json() != self.descriptor.json():
            raise VerifyError("launch: expected what the launch descriptor describes, got another launch")
        return launch

    def _root(self, name: str, value: str) -> str:
        """The text of a root that Enarx.toml has as a path."""
        from donjon.config._rules import PEM

        if PEM in value:
            return value
        data = self.files.get(ROOTS + name)
        if data is None:
            raise VerifyError(f"launch: expected the file {ROOTS}{printable(name)}, which Enarx.toml names, got none")
        text = data.decode("utf-8", "replace")
        if text.encode() != data or PEM not in text:
            raise UsageError(f"roots.{printable(name)}: expected certificates in PEM, in UTF-8")
        return text
