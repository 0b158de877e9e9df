"""Process 1 of a Keep's virtual machine: makes a system of a kernel, becomes the agent, and switches the power off.

There is no shell, no other program, nothing to start: the initramfs holds this interpreter, the engine, and Donjon.
What happens here, in this order:

    0  descriptors 0 to 2: without a console the kernel starts process 1 without any, and the next file would be stdin
    1  mounts: /proc, /sys, /dev, and a /tmp of 1 MiB, each without what it does not need
    2  kernel modules for the hardware that is there: a network card's, a TEE's; nothing is probed for
    3  in a TEE: the processor must have RDRAND, as every other source of randomness here is the host's; in a TD, what
       the launcher has named is asked of the TDX module, as a quote is the host's to give
    4  the network: an address of our own, no route, no name service; IPv6 is off
    5  the sallyport's port
    6  no more modules, no other kernel, no user namespaces, no io_uring, no devices but /dev/null and its like; the
       root file system becomes read-only; capabilities are left for starting and ending processes, and for the power
    7  the engine and what runs a workload are loaded, for the Keep's process, which is a fork
    8  the agent (`donjon.guest.agent`), until the Keep has ended
    9  power off, whatever happened: an end without a word is better than a machine that nobody watches

A panic ends the machine too: `panic=-1` on the kernel's command line, which is measured, and QEMU's `-no-reboot`. That
the command line says `lockdown=confidentiality` and `module.sig_enforce=1` is part of the measurement; what the kernel
says of it is logged at level debug, for tests and for the curious.

Not from here: the clock. It is the host's, as there is no other in a VM before TDX and SNP guests have a trusted one
(SecureTSC), so whoever judges certificates by time in a Keep judges by the host's time.
"""

from __future__ import annotations

import errno
import gc
import os
import stat
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

__all__ = ["PORT", "facts", "main"]

PORT = "donjon.sallyport"
"""The name of the virtio-serial port."""
TSM = "/sys/kernel/config/tsm/report"
MODULES = "/lib/modules"
NETWORK = ("failover", "net_failover", "virtio_net")
TEES = {"snp": ("configfs", "tsm", "sev_guest"), "tdx": ("configfs", "tsm", "tdx_guest")}
"""What is loaded for each, in an order in which none misses another."""
NIC, NIC_SECONDS = "0x0001", 5.0
"""virtio's number for a network device [VIRTIO, section 5.1]; how long its interface may take to appear."""
PORT_SECONDS = 10.0
DESCRIPTORS = 1 << 20
"""The hard limit of open files, which a workload's [limits] may reach up to."""
VARIANT = "/etc/donjon/variant"
PYTHON = "/usr/bin/python3.11"
WARM = (
    "donjon.guest.keep", "donjon.guest.confine", "donjon.guest.requests", "donjon.keep.nil", "donjon.keep.launch",
    "donjon.keep.channel", "donjon.keep.sandbox", "donjon.keep._filter", "donjon.config.models",
    "donjon.wasm.wasi.descriptors.stdio", "donjon.workload",
)  # fmt: skip
PUBLIC = {"/dev/null": 3, "/dev/zero": 5, "/dev/full": 7, "/dev/random": 8, "/dev/urandom": 9}
"""Devices that there are when the machine is set up, and their numbers in the kernel's first group."""
ROOTS = "/etc/ssl/certs/ca-certificates.crt"


def main(attach: Callable[[], None] | None = None) -> NoReturn:
    """Be process 1.

    Args:
        attach: puts what stands for a TEE in its place; called when everything is mounted. The image for tests has one.
    """
    started = time.monotonic_ns()
    gc.disable()  # until all is loaded: it would find nothing, many times
    ports: list[int] = []
    try:
        _standard_streams()
        _run(attach, started, ports)
    except BaseException as error:
        _tell_console(error)
        _tell_host(error, ports)
    finally:
        _end()


def _run(attach: Callable[[], None] | None, started: int, ports: list[int]) -> None:
    from donjon import linux

    marks = [("kernel", _executed()), ("python", started)]

    def mark(name: str) -> None:
        marks.append((name, time.monotonic_ns()))

    _mount_all()
    _limits()
    mark("init")
    tee = _hardware()
    network = _has_nic()
    _load(*(TEES[tee] if tee else ()), *(NETWORK if network else ()))
    if tee is not None:
        linux.mount("none", "/sys/kernel/config", "configfs", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
    if attach is not None:
        attach()
    if network:
        from donjon.keep.network import GUEST_ADDRESS

        linux.configure("lo", "127.0.0.1", "255.0.0.0")
        linux.configure(_interface(), GUEST_ADDRESS, "255.255.255.0")
    named, unnamed = _named(tee)
    mark("modules")
    ports.append(_port())
    mark("port")
    _close_doors()

    from donjon.guest.agent import Agent, Place

    tee = tee or _speaks()
    place = Place(
        variant=_line(VARIANT) or "production",
        tee=tee,
        tsm=TSM,
        network=network,
        confined=True,
        problem=unnamed or (_no_randomness() if tee is not None else None),
        named=named,
        facts=facts(),
        memory=_memory(),
    )
    # What is left to process 1: starting and ending other users' processes, and the power.
    linux.keep_capabilities(linux.CAP_KILL, linux.CAP_SETGID, linux.CAP_SETUID, linux.CAP_SETPCAP, linux.CAP_SYS_BOOT)
    mark("agent")
    _warm_up()
    mark("engine")
    Agent(ports[0], place, marks, virtio=True).run()


def _end() -> NoReturn:
    try:
        from donjon.linux import power_off

        power_off()
    finally:
        os._exit(1)  # process 1 that ends is a panic, and that ends the machine as well


def _tell_console(error: BaseException) -> None:
    """Before there is a sallyport, the console is the only place for words; only the image for debugging has one."""
    try:
        console = os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY)
    except OSError:
        return
    import traceback

    os.write(console, "".join(traceback.format_exception(error)).encode())
    os.close(console)


def _tell_host(error: BaseException, ports: list[int]) -> None:
    """Likewise: the port may be there, and a host that hears nothing has nothing to say to whoever started it."""
    try:
        from donjon.errors import PlatformError
        from donjon.sallyport.io import Port, connect
        from donjon.sallyport.machine import GuestMachine

        descriptor = ports[0] if ports else _port()
        machine = GuestMachine()
        connect(descriptor, PORT_SECONDS)
        machine.fail(PlatformError(f"the virtual machine could not be set up: {type(error).__name__}: {error}"))
        Port(descriptor, machine, virtio=True).flush(PORT_SECONDS)
    except Exception as another:
        _tell_console(another)


def _executed() -> int:
    """When the kernel was done, and mapped this interpreter; in nanoseconds of the monotonic clock, to some ms."""
    ago = time.time_ns() - os.stat(sys.executable or PYTHON).st_atime_ns
    return max(0, time.monotonic_ns() - max(0, ago))


def _warm_up() -> None:
    """Load what the Keep's process needs, so that its fork finds it; a snapshot that is taken then has it too."""
    for name in WARM:
        __import__(name)
    from donjon.wasm.engine.module import engine

    engine()  # which the Keep and its compiler would each load and start for themselves
    gc.freeze()  # or the first collection in a fork would copy every page of these
    gc.enable()


def _standard_streams() -> None:
    while (descriptor := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _mount_all() -> None:
    from donjon.linux import MS_NODEV, MS_NOEXEC, MS_NOSUID, mount

    nothing = MS_NOSUID | MS_NODEV | MS_NOEXEC
    mount("proc", "/proc", "proc", nothing, "hidepid=invisible")
    mount("sys", "/sys", "sysfs", nothing)
    mount("dev", "/dev", "devtmpfs", MS_NOSUID | MS_NOEXEC, "mode=0755")
    mount("tmp", "/tmp", "tmpfs", nothing, "size=1m,nr_inodes=64,mode=1777")  # noqa: S108 - it is made here


def _limits() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, DESCRIPTORS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.clear()
    os.environ.update(SSL_CERT_FILE=ROOTS, HOME="/", PATH="/")
    _write("/proc/sys/kernel/hostname", "keep")


def _hardware() -> str | None:
    """The TEE that this machine is, as its kernel says; None where it is none.

    A kernel that does not see one has none: then nothing here gives evidence, and nobody outside believes it.
    Source: Linux, Documentation/ABI/testing/sysfs-devices-system-cpu (sev), arch/x86/include/asm/cpufeatures.h.
    """
    if os.path.isdir("/sys/devices/system/cpu/sev") or os.path.isdir("/sys/bus/platform/devices/sev-guest"):
        return "snp"
    return "tdx" if "tdx_guest" in _flags() else None


def _named(tee: str | None) -> tuple[bytes | None, str | None]:
    """What the launcher has named, where evidence that says so is the host's to give; and what is wrong with that.

    A report of SNP comes from the processor, sealed. A quote of TDX comes from the host, which could make one up.
    """
    from donjon.linux import td_config

    if tee != "tdx":
        return None, None
    try:
        return td_config(), None
    except OSError as error:
        return None, f"the TDX module does not say what this machine was started for: {error.strerror}"


def _speaks() -> str | None:
    """Whose evidence there is, where no hardware said so: what stands for one in tests."""
    if not os.path.isdir(TSM):
        return None
    from donjon.tee.tsm import provider

    return provider(TSM)


def _flags() -> list[str]:
    lines = _text("/proc/cpuinfo").splitlines()
    return next((line.split() for line in lines if line.startswith("flags")), [])


def _no_randomness() -> str | None:
    """What is wrong with this machine's randomness, for a TEE; None where nothing is."""
    if "rdrand" in _flags():
        return None
    return "this processor has no RDRAND, and every other source of randomness is the host's"


def _memory() -> int:
    """Bytes of memory that the kernel has to give."""
    lines = _text("/proc/meminfo").splitlines()
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemTotal:")), 0)


def _has_nic() -> bool:
    below = "/sys/bus/virtio/devices"
    try:
        return any(_line(f"{below}/{name}/device") == NIC for name in os.listdir(below))
    except FileNotFoundError:
        return False


def _load(*names: str) -> None:
    """Load modules; what the image does not have is built in, and a TEE's driver on other hardware says ENODEV."""
    from donjon.linux import load_module

    for name in names:
        try:
            load_module(f"{MODULES}/{name}.ko")
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EEXIST, errno.ENODEV):
                raise OSError(error.errno, f"module {name}: {error.strerror}") from error


def _interface() -> str:
    """The network card's interface, as soon as there is one."""
    end = time.monotonic() + NIC_SECONDS
    while True:
        found = sorted(set(os.listdir("/sys/class/net")) - {"lo"})
        if found:
            return found[0]
        if time.monotonic() > end:
            raise OSError(errno.ENODEV, "the network card has no interface")
        time.sleep(0.002)


def _close_doors() -> None:
    """What was needed until here and never again."""
    from donjon.linux import MS_RDONLY, MS_REMOUNT, mount

    for name, value in (
        ("kernel/modules_disabled", "1"),
        ("kernel/kexec_load_disabled", "1"),
        ("kernel/unprivileged_bpf_disabled", "1"),
        ("kernel/dmesg_restrict", "1"),
        ("kernel/kptr_restrict", "2"),
        ("kernel/perf_event_paranoid", "3"),
        ("kernel/io_uring_disabled", "2"),
        ("kernel/yama/ptrace_scope", "3"),
        ("user/max_user_namespaces", "0"),
        ("vm/unprivileged_userfaultfd", "0"),
        ("net/ipv6/conf/all/disable_ipv6", "1"),
    ):
        _write(f"/proc/sys/{name}", value)
    _few_devices()
    mount("none", "/", "", MS_REMOUNT | MS_RDONLY)


def _few_devices() -> None:
    """Cover /dev by one with nothing but what a program needs: some of the kernel's devices are everybody's to open."""
    from donjon.linux import MS_NOEXEC, MS_NOSUID, mount

    mount("dev", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC, "size=4k,nr_inodes=16,mode=0755")
    for path, minor in PUBLIC.items():
        os.mknod(path, stat.S_IFCHR, os.makedev(1, minor))
        os.chmod(path, 0o666)  # noqa: S103 - as everywhere, whatever the umask
    os.mknod("/dev/console", 0o600 | stat.S_IFCHR, os.makedev(5, 1))  # for process 1, and only one variant has any
    os.symlink("/proc/self/fd", "/dev/fd")  # by which the engine maps code


def _write(path: str, text: str) -> None:
    """Set a value of the kernel's, where it has such."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def _line(path: str) -> str:
    return _text(path, 256).partition("\n")[0].strip()


def _text(path: str, most: int = 1 << 16) -> str:
    """What a file of the kernel's begins with; "" where there is none. By system calls, which takes a third."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return os.read(file, most).decode("ascii", "replace")
    finally:
        os.close(file)


def _port() -> int:
    """The sallyport's port, open."""
    from donjon.linux import virtio_port

    end = time.monotonic() + PORT_SECONDS
    while time.monotonic() < end:
        path = virtio_port(PORT)
        if path is not None:
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        time.sleep(0.002)
    raise OSError(errno.ENODEV, f"no virtio-serial port is named {PORT}")


def facts() -> str:
    """What the kernel says about how locked it is, for a line of the log."""
    from donjon.linux import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, mount, unmount

    security, lockdown = "/sys/kernel/security", ""
    try:
        mount("security", security, "securityfs", MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC)
        lockdown = _line(f"{security}/lockdown").partition("[")[2].partition("]")[0]
        unmount(security)
    except OSError:
        pass
    swaps = len(_text("/proc/swaps").splitlines()) - 1
    consoles = [line.split()[0] for line in _text("/proc/consoles").splitlines()]
    signed = _line("/sys/module/module/parameters/sig_enforce")
    return (
        f"lockdown {lockdown or 'unknown'}, module.sig_enforce {signed or 'unknown'}, "
        f"modules_disabled {_line('/proc/sys/kernel/modules_disabled')}, swaps {swaps}, "
        f"consoles {' '.join(consoles) or 'none'}, root {_root_mode()}"
    )


def _root_mode() -> str:
    mounts = [line.split() for line in _text("/proc/self/mounts").splitlines()]
    return next((fields[3].partition(",")[0] for fields in mounts if fields[1] == "/"), "unknown")
