"""Keeps in virtual machines: QEMU starts the image of `donjon.image`, and the workload goes in through the sallyport.

    code = run(launch, log)                         `donjon run --backend kvm`

    boot      what a machine is started with: QEMU, accelerator, image, its words and what it inherits
    words     QEMU's command line, computed
    process   QEMU as a process that cannot outlive this one
    session   what is said through the sallyport, and what happens meanwhile: streams, connections, the end
    loop, streams, relay, dial      where it waits, and what carries bytes
    collateral, apart               what vendors publish; forks, in which that and names are asked for

Nothing that comes out of the machine is believed. A guest that breaks the sallyport's protocol is ended; so is one that
says nothing. Bytes of its streams go where ours go, its messages are escaped, its connections lead where Enarx.toml
says. The machine in turn believes nothing of ours but what a TEE's hardware vouches for; `kvm` has none.
"""

from __future__ import annotations

from donjon.log import QUIET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from donjon.keep.launch import Launch
    from donjon.log import Logger
    from donjon.tee.signatures import Signatures

    OnListen = Callable[[str, str, int], None]
    OnMark = Callable[[str, int], None]

__all__ = ["BOOT_SECONDS", "run"]

BOOT_SECONDS = 120.0
"""How long a machine may take until it greets, where nothing else is said."""


def run(
    launch: Launch,
    log: Logger = QUIET,
    *,
    backend: str = "kvm",
    debug: bool = False,
    accel: str = "auto",
    memory: int | None = None,
    firmware: str | None = None,
    signatures: Signatures | None = None,
    boot_seconds: float = BOOT_SECONDS,
    stdio: tuple[int, int, int] = (0, 1, 2),
    on_listen: OnListen | None = None,
    on_ready: Callable[[], None] | None = None,
    on_mark: OnMark | None = None,
    snapshot_for_tests: str | None = None,
) -> int:
    """Run a workload in a virtual machine to its end.

    SIGINT, SIGTERM and SIGHUP end the workload, then the machine, then this process, as they would without a machine;
    that needs the main thread.

    Args:
        log: its levels are those of the Keep inside, too.
        backend: "kvm", or a TEE's name.
        debug: the image with a console, whose lines are logged; it measures differently.
        accel: what a machine of kvm runs on: "kvm", "tcg" (emulated), or "auto", which asks `donjon.platform.kvm`.
        memory: bytes of the machine's memory.
        firmware: a file for a machine of a TEE; see `donjon.tee.firmware`.
        signatures: of the image, for a TEE whose machines have them.
        boot_seconds: how long it may take until it greets; with more, what follows until it starts has more time too.
        stdio: descriptors for the guest's stdin, stdout and stderr.
        on_listen: called with name, host and port of each listener once it is bound.
        on_ready: called when everything is open, before the guest's `_start`.
        on_mark: called with names of moments and their nanoseconds by the machine's own clock.
        snapshot_for_tests: a directory of this user's: an emulated machine goes on from one that was kept there, whose
            randomness and clock it has, see `donjon.keep.vm.snapshot`. Without emulation it boots, which is as quick.
    Returns:
        The guest's exit code, 0 to 255.
    Raises:
        TrapError: the guest trapped.
        DonjonError: of the other families, when it could not be started, or the machine failed.
    """
    from donjon.keep.vm.boot import Boot
    from donjon.keep.vm.signals import Signals

    launch.check_enclosed()

    def boots() -> Boot:
        return Boot(
            launch, log, backend, debug=debug, accel=accel, memory=memory, firmware=firmware, signatures=signatures
        )

    hello = None
    with boots() as boot:
        log.info(f"virtual machine: {boot.how}", "donjon.keep")
        if snapshot_for_tests is not None:
            from donjon.keep.vm import snapshot

            hello = snapshot.use(launch, boot, boots, snapshot_for_tests, boot_seconds, log)
        with Signals() as signals:
            log.debug(f"QEMU: {' '.join(boot.words)}", "donjon.keep")
            process = boot.start()
            from donjon.keep.vm.session import Session  # while the machine starts

            session = Session(launch, boot, process, log, boot_seconds, stdio, signals, hello)
            session.on_listen, session.on_ready, session.on_mark = on_listen, on_ready, on_mark
            return session.run()
