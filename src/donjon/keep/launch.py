"""What to run and how: everything a backend needs to start a Keep."""

from __future__ import annotations

import os

from donjon.errors import BugError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from donjon.config.models import Config
    from donjon.config.roots import Root
    from donjon.workload import Descriptor, File

__all__ = ["ATTEST", "DEVICES", "TSM", "Launch", "check_guest_text"]

DEVICES = ("/dev/sev-guest", "/dev/tdx_guest", "/dev/tdx-guest")
"""What a guest has that could give evidence, if its kernel had configfs-tsm too."""
ATTEST = ("auto", "none", "kvm", "snp", "tdx", "sgx", "cca")
"""What `attest` can be: what this machine speaks for, nothing, or a TEE by its name."""
TSM = "/sys/kernel/config/tsm/report"
"""Where Linux has configfs-tsm, through which SNP, TDX and CCA give evidence."""
GRAMINE = "/dev/attestation"
"""Where Gramine gives SGX's."""

LARGEST = 128 << 10
"""Bytes of one argument or variable: what Linux allows a native program."""


class Launch:
    """A workload and its circumstances.

    Args:
        module: the module's bytes, or the path of its file.
        config: a Config, the path of an Enarx.toml, or None for standard streams and nothing else.
        args: arguments after those of the configuration.
        env: variables beside those of the configuration, and instead of those with the same name.
        attest: whose evidence to have, one of ATTEST.
        sim: the directory of a simulated lab (`donjon sim init`), whose evidence is taken instead of this machine's.
        tsm: where configfs-tsm is.
        toml: what the configuration's file holds, where `config` was read from one already.
        output: whether the host may see what the guest writes where it is kept from it otherwise: in a confidential VM.
    Raises:
        ParseError, UsageError: the configuration's file is malformed or missing, an argument or variable cannot be one,
            or the ways to attest do not fit together.

    Attributes:
        main: what the package's directory says about the module; `prepare` sets it where the launch is attested.
    """

    __slots__ = ("_roots", "args", "attest", "config", "env", "main", "module", "name", "output", "sim", "toml", "tsm")

    def __init__(
        self,
        module: str | bytes,
        config: Config | str | None = None,
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        attest: str = "auto",
        sim: str | None = None,
        tsm: str = TSM,
        toml: bytes | None = None,
        output: bool = False,
    ) -> None:
        self.output = output
        self.module = module
        self.name = "module" if isinstance(module, bytes) else module
        self.toml = toml
        if isinstance(config, str):
            from donjon.config import read

            self.config, self.toml = read(config)
        else:
            self.config = config if config is not None else _default()
        self.attest = attest
        self.sim = sim
        self.tsm = tsm
        self.main: File | None = None
        self._roots: Mapping[str, Root] | None = None
        self.args = tuple(check_guest_text(arg, "argument") for arg in args)
        self.env = dict(env or {})
        for key, value in self.env.items():
            if key in ("FD_COUNT", "FD_NAMES") or not key or "=" in key:
                raise UsageError(f'variable "{key}": expected a name without "=" that is not FD_COUNT or FD_NAMES')
            check_guest_text(key + value, f'variable "{key}"')
        if attest != "auto" or sim is not None or self.config.steward is not None:
            self._check_attestation()

    def _check_attestation(self) -> None:
        """What is asked for about evidence has to fit together: nothing of it is ignored."""
        if self.attest not in ATTEST:
            raise UsageError(f'attest: expected {", ".join(ATTEST)}, got "{self.attest[:20]}"')
        steward = self.config.steward
        if self.attest == "none" and steward is not None:
            raise UsageError(
                f"attest none: a Keep must not run without the certificate that steward = {steward!r} demands",
                "remove `--attest none`, or the line `steward` to run with a certificate that the Keep signs itself",
            )
        if self.sim is not None and self.attest in ("none", "kvm"):
            raise UsageError(
                f"attest {self.attest}: simulated hardware gives evidence of snp, tdx, sgx or cca",
                "remove `--sim`, or name one of these",
            )
        if steward is None and self.attest == "kvm":
            raise UsageError("attest kvm: evidence of no hardware has a use for a Steward only, and none is named")
        if steward is None and (self.sim is not None or self.attest not in ("auto", "none")) and not self._has_tls():
            raise UsageError(
                "there is nothing that could show evidence: the workload has no TLS socket and no Steward",
                'give it a `listen` with prot = "tls", name a `steward`, or leave out `--attest` and `--sim`',
            )

    def _has_tls(self) -> bool:
        return any(file.kind in ("listen", "connect") and file.prot == "tls" for file in self.config.files)

    def attested(self) -> bool:
        """Whether this Keep's identity holds evidence, or is had for evidence."""
        if self.config.steward is not None or self.sim is not None:
            return True
        if self.attest == "auto":
            # A device alone is no way to evidence; that is said when it is asked for, and the Keep does not run.
            speaks = os.path.isdir(self.tsm) or os.path.isdir(GRAMINE) or any(map(os.path.exists, DEVICES))
            return self._has_tls() and speaks
        return self.attest != "none"

    def describe(self) -> Descriptor:
        """What is launched, whole; its digest names the workload. `main` has to be set."""
        from donjon.workload import Descriptor, package

        if self.main is None:
            raise BugError("a launch was described before its module was read")
        config = self.toml
        if config is None and self.config != _default():
            from donjon.workload.tree import canonical

            config = canonical(_plain(self.config))
        roots = {name: bytes.fromhex(root.digest) for name, root in self.roots().items()}
        return Descriptor(package(self.main, config), self.args, self.env, roots, self.output)

    def check_enclosed(self) -> None:
        """See that the workload can run where nothing of the host's file system is: in a virtual machine.

        Raises:
            UsageError: the configuration names a directory.
        """
        for file in self.config.files:
            if file.kind == "dir":
                raise UsageError(
                    f'"{file.name}": a Keep in a virtual machine has no directories of its host, which could change '
                    "what the guest reads",
                    'remove the entry with kind = "dir", or run the workload with --backend nil',
                )

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


def _default() -> Config:
    from donjon.config.models import Config

    return Config()


def _plain(value: object) -> object:
    """A configuration that was made in Python, as JSON has it: it stands for the Enarx.toml that there is not."""
    if hasattr(value, "_fields"):
        kind = {"kind": value.kind} if hasattr(value, "kind") else {}
        return {**kind, **{name: _plain(field) for name, field in value._fields().items()}}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


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
