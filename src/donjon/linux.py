"""The few calls of Linux that Python does not have, and its interfaces' ioctls; most are for process 1 of a machine.

Each raises OSError with the kernel's reason. Numbers are those of x86-64 where they differ between architectures.

Sources: <linux/mount.h>, <linux/reboot.h>, <linux/prctl.h>, <linux/capability.h>, <linux/sockios.h>, <linux/if.h>,
<linux/tdx-guest.h>.
"""

from __future__ import annotations

import _socket  # without the classes that `socket` adds
import ctypes
import errno
import fcntl
import os
import struct

__all__ = [
    "MS_NODEV", "MS_NOEXEC", "MS_NOSUID", "MS_RDONLY", "MS_REMOUNT",
    "configure", "drop_bounding_set", "keep_capabilities", "load_module", "mount", "power_off", "prctl", "td_config",
    "unmount", "virtio_port",
]  # fmt: skip

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 24, 38
CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_SETPCAP, CAP_SYS_BOOT = 5, 6, 7, 8, 22
_CAPABILITY_VERSION = 0x20080522
_FINIT_MODULE = {"x86_64": 313, "aarch64": 273}
_POWER_OFF = 0x4321FEDC
_SIOCSIFFLAGS, _SIOCSIFADDR, _SIOCSIFNETMASK = 0x8914, 0x8916, 0x891C
_IFF_UP = 1
_TDX_GET_REPORT, _TDX_REPORT = 0xC4405401, 0x81
_VIRTIO_PORTS = "/sys/class/virtio-ports"

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, path: str | None = None) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2); the target is made if it is not there."""
    try:
        os.mkdir(target)
    except FileExistsError:
        pass
    words = source.encode(), os.fsencode(target), kind.encode()
    _check(_libc.mount(*words, ctypes.c_ulong(flags), data.encode() or None), target)


def unmount(target: str) -> None:
    """umount(2)."""
    _check(_libc.umount(os.fsencode(target)), target)


def load_module(path: str) -> None:
    """finit_module(2): the kernel checks the module's signature, where it is told to."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.syscall(ctypes.c_long(_FINIT_MODULE[os.uname().machine]), file, b"", 0), path)
    finally:
        os.close(file)


def virtio_port(name: str, ports: str = _VIRTIO_PORTS) -> str | None:
    """The device of the virtio-serial port that the host has named so; None where there is none.

    Source: Linux, drivers/char/virtio_console.c, attribute "name" of a port.
    """
    try:
        for port in sorted(os.listdir(ports)):
            with open(f"{ports}/{port}/name", "rb") as file:
                if file.read(256).strip() == name.encode():
                    return f"/dev/{port}"
    except FileNotFoundError:  # no driver, or a port that is not all there yet
        pass
    return None


def td_config(device: str = "/dev/tdx_guest") -> bytes:
    """What the launcher of this TD has named: MRCONFIGID, 48 bytes, in a report that the TDX module itself hands out.

    A quote says the same, but the host passes it on, and one that nobody has verified may say anything.

    Source: <linux/tdx-guest.h>, struct tdx_report_req; TDX-ABI, TDREPORT_STRUCT (TDINFO at 512) and TDINFO_STRUCT.
    """
    request = bytearray(64 + 1024)  # report data, of no use here; the report
    file = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(file, _TDX_GET_REPORT, request)
    finally:
        os.close(file)
    report = bytes(request[64:])
    if report[0] != _TDX_REPORT:
        raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
    return report[576:624]


def power_off() -> None:
    """reboot(2); comes back only if it is refused."""
    _libc.reboot(ctypes.c_uint(_POWER_OFF))


def prctl(option: int, argument: int) -> None:
    """prctl(2), for options with one argument."""
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero))


def drop_bounding_set(keep: tuple[int, ...] = ()) -> None:
    """Let no program that is started have other capabilities than these; no program is."""
    with open("/proc/thread-self/status", "rb") as file:
        there = int(file.read().partition(b"\nCapBnd:")[2].split()[0], 16)
    for number in range(there.bit_length()):
        if there >> number & 1 and number not in keep:
            prctl(PR_CAPBSET_DROP, number)


def keep_capabilities(*keep: int) -> None:
    """Give up all capabilities but these, for ever."""
    drop_bounding_set(keep)
    mask = sum(1 << number for number in keep)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    _check(_libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION, 0), struct.pack("=6I", low, low, 0, high, high, 0)))


def configure(interface: str, address: str, netmask: str) -> None:
    """Give a network interface an IPv4 address, and switch it on."""
    any_socket = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        for request, value in ((_SIOCSIFADDR, address), (_SIOCSIFNETMASK, netmask)):
            wanted = struct.pack("=16sHH4s8x", interface.encode(), _socket.AF_INET, 0, _socket.inet_aton(value))
            fcntl.ioctl(any_socket.fileno(), request, wanted)
        fcntl.ioctl(any_socket.fileno(), _SIOCSIFFLAGS, struct.pack("=16sH14x", interface.encode(), _IFF_UP))
    finally:
        any_socket.close()
