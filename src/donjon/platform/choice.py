"""Which backend holds a Keep: what was named, or the strongest that works, and never a weaker one than was demanded.

    chosen = choose("auto", require=None, say=log.warn)
    chosen.backend      "nil", "kvm", "snp", "tdx"
    chosen.tee          what keeps the host out: "snp", "tdx", ...; None when nothing does
    chosen.in_place     the machine itself is a confidential VM: nil's process, in it

`auto` takes a confidential backend if all its data pass, else nil. kvm protects nobody from the host: it is taken by
name only. A machine whose processor could do it, and that lacks something, runs the Keep without a TEE and says so,
unless one is demanded: then nothing runs. Enarx goes on without a word when a list of revoked certificates has ended.

A Keep in a confidential VM runs in place, as nobody outside can look into it, and takes its evidence there. Which TEE
that is, the kernel's configfs-tsm says; a directory of another name (`--tsm`) may be anybody's, and proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from donjon.errors import PlatformError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.platform.backends import Backend
    from donjon.platform.machine import Machine

__all__ = ["TEES", "Choice", "choose", "name_of"]

TEES = ("snp", "tdx", "sgx", "cca")
"""What can be demanded by name; `tee` is any of them."""
_DOCTOR = "`donjon doctor --backend {}` says what to do"
_GRAMINE = "/dev/attestation"


@dataclass(frozen=True, slots=True)
class Choice:
    """What holds the Keep; see the module."""

    backend: str
    tee: str | None
    in_place: bool = False


def name_of(word: str) -> str:
    """A backend's name; Enarx calls snp `sev`."""
    return "snp" if word == "sev" else word


def choose(
    backend: str = "auto",
    require: str | None = None,
    say: Callable[[str], None] | None = None,
    machine: Machine | None = None,
    provider: Callable[[], str | None] | None = None,
    can: tuple[str, ...] = ("nil",),
    brought: tuple[str, ...] = (),
) -> Choice:
    """Choose.

    Args:
        backend: one of `can`, or "auto".
        require: "tee", or one of TEES: what has to keep the host out.
        say: gets warnings.
        provider: whose guest this machine is, as `donjon.tee.tsm.provider`.
        can: backends that the caller can start.
        brought: names of data that the caller has itself, "Firmware" or "Guest image": this machine need not have them.
    Raises:
        UsageError: the words contradict each other. PlatformError: what is asked for is not to be had here.
    """
    backend, require = name_of(backend), None if require is None else name_of(require)
    if require is not None and require not in ("tee", *TEES):
        raise UsageError(f'--require: expected tee, {", ".join(TEES)}, got "{require[:20]}"')
    if backend == "kvm" and require is not None:
        raise UsageError(
            f"--backend kvm protects nobody from the host, and --require {require} demands that",
            "leave one of them out",
        )
    if backend == "kvm":
        return Choice("kvm", None)
    from donjon.platform import backends  # what follows looks at hardware, and what it needs is large
    from donjon.platform.machine import Machine

    machine = machine or Machine()
    if backend in ("snp", "tdx"):
        if require not in (None, "tee", backend):
            raise UsageError(f"--backend {backend} is not what --require {require} demands", "leave one of them out")
        return _named(backend, machine, brought)
    guest = _guest(machine, provider, require is not None)
    if guest is not None:
        if require not in (None, "tee", guest):
            raise PlatformError(
                f"--require {require}: this machine is a guest of {guest}", f"--require {guest} runs here"
            )
        return Choice("nil", guest, in_place=True)
    if backend == "auto":
        for found in (backends.snp(machine), backends.tdx(machine)):
            if require not in (None, "tee", found.name):
                continue
            if not _missing(found, brought) and found.name in can:
                return Choice(found.name, found.name)
            if found.hardware and require is None and say is not None:
                say(
                    f"this machine's processor has {found.name}, which cannot be used: {_why(found, can, brought)}; "
                    "the Keep runs open to the host: `donjon doctor` says what to do, and --require tee refuses this"
                )
    if require is not None:
        raise PlatformError(
            f"--require {require}: nothing here keeps the host out of the Keep",
            "`donjon doctor` says what is missing; without --require it runs in nil, open to the host",
        )
    return Choice("nil", None)


def _named(name: str, machine: Machine, brought: tuple[str, ...]) -> Choice:
    from donjon.platform import backends

    found = backends.snp(machine) if name == "snp" else backends.tdx(machine)
    if _missing(found, brought):
        state = "is here, but something is missing" if found.hardware else "is not to be had on this machine"
        raise PlatformError(
            f"backend {name} {state}: {_why(found, (name,), brought)}",
            _DOCTOR.format(name),
        )
    return Choice(name, name)


def _missing(found: Backend, brought: tuple[str, ...]) -> list[str]:
    """What is needed and not here."""
    return [datum.name for datum in found.missing if datum.name not in brought]


def _why(found: Backend, can: tuple[str, ...], brought: tuple[str, ...]) -> str:
    """The first things that are missing."""
    names = _missing(found, brought)
    if names:
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return "this version of donjon does not start it" if found.name not in can else ""


def _guest(machine: Machine, provider: Callable[[], str | None] | None, needed: bool) -> str | None:
    """Whose guest this machine is.

    Args:
        needed: that it is one and cannot say so is an error; otherwise the Keep's own attestation says so in time.
    Raises:
        PlatformError: it is one, and cannot say which.
    """
    if provider is None:
        from donjon.tee.tsm import provider as of_kernel

        provider = of_kernel
    from donjon.platform.backends import TSM, inside

    seen = inside(machine)[0]
    if machine.kind(TSM) == "directory":
        try:
            return provider()
        except PlatformError:
            if seen is not None and needed:
                raise
            return None  # the kernel has configfs-tsm, and no TEE has registered with it; or only root may ask
    if seen is not None and needed:
        raise PlatformError(
            f"this machine is a guest of {seen}, and has no configfs-tsm at {TSM}",
            "sudo modprobe tsm; sudo mount -t configfs none /sys/kernel/config",
        )
    return "sgx" if machine.kind(_GRAMINE) == "directory" else None
