"""What to run and how: everything a backend needs to start a Keep."""

from __future__ import annotations

from donjon.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from donjon.config.models import Config
    from donjon.config.roots import Root

__all__ = ["Launch", "check_guest_text"]

LARGEST = 128 << 10
"""Bytes of one argument or variable: what Linux allows a native program."""


class Launch:
    """A workload and its circumstances.

    Args:
        module: the module's bytes, or the path of its file.
        config: a Config, the path of an Enarx.toml, or None for standard streams and nothing else.
        args: arguments after those of the configuration.
        env: variables beside those of the configuration, and instead of those with the same name.
    Raises:
        ParseError, UsageError: the configuration's file is malformed or missing, an argument or variable cannot be one.
    """

    __slots__ = ("_roots", "args", "config", "env", "module", "name")

    def __init__(
        self,
        module: str | bytes,
        config: Config | str | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.module = module
        self.name = "module" if isinstance(module, bytes) else module
        self.config = _config(config)
        self._roots: Mapping[str, Root] | None = None
        self.args = tuple(check_guest_text(arg, "argument") for arg in args)
        self.env = dict(env or {})
        for key, value in self.env.items():
            if key in ("FD_COUNT", "FD_NAMES") or not key or "=" in key:
                raise UsageError(f'variable "{key}": expected a name without "=" that is not FD_COUNT or FD_NAMES')
            check_guest_text(key + value, f'variable "{key}"')

    def roots(self) -> Mapping[str, Root]:
        """What the files in `[roots]` hold; they are read at the first call, and never again.

        Raises:
            ParseError, UsageError, PlatformError: one is missing, or is not what it must be.
        """
        if self._roots is None:
            self._roots = {}
            if self.config.roots:
                from donjon.config.roots import read

                self._roots = read(self.config)
        return self._roots

    def argv(self) -> list[str]:
        """The guest's arguments; the first is always "main.wasm", as in Enarx."""
        return ["main.wasm", *self.config.args, *self.args]

    def environ(self) -> list[str]:
        """The guest's variables as NAME=value; FD_COUNT and FD_NAMES tell it what its descriptors are."""
        files = self.config.files
        own = {"FD_COUNT": str(len(files)), "FD_NAMES": ":".join(file.name for file in files)}
        return [f"{key}={value}" for key, value in {**own, **self.config.env, **self.env}.items()]


def _config(config: Config | str | None) -> Config:
    if isinstance(config, str):
        from donjon.config import load

        return load(config)
    if config is None:
        from donjon.config.models import Config

        return Config()
    return config


def check_guest_text(text: str, what: str) -> str:
    """An argument or a variable: no NUL, which would end it early for the guest, and not over LARGEST."""
    if "\0" in text:
        raise UsageError(f"{what}: expected text without NUL characters")
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise UsageError(f"{what}: expected text that UTF-8 can hold, got {error.object[error.start]!a}") from None
    if len(text) > LARGEST:
        raise UsageError(f"{what}: expected at most {LARGEST} characters, got {len(text)}")
    return text
