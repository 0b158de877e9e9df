"""What each backend needs, and whether a machine has it: the data that Enarx lists under the names that it gives them.

    find(machine)        nil, kvm, snp, tdx, sgx: each with its data, whose children stand below them
    inside(machine)      whether the machine itself is a confidential VM

A datum passes or does not; `needed` says whether the backend works without it. `mesg` says what to do, `command` is a
command that mends it where there is one. Enarx splits what it looks at into data and configuration, leaves the second
out of its JSON, and lets a list that has ended turn a machine into one without a TEE. Here all of it is data, and
whether a Keep may run elsewhere instead is decided in `choice.py`, aloud.

Sources: Enarx, src/backend/{kvm,sev,sgx}/{data,config}.rs; AMD64 APM volume 3, CPUID Fn8000_001F; Intel SDM volume 3D,
CPUID leaf 12H; Linux, Documentation/virt/kvm/x86/{amd-memory-encryption,intel-tdx}.rst, arch/x86/sgx.rst.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from datetime import datetime

from donjon.errors import ParseError
from donjon.platform.machine import Machine
from donjon.platform.qemu import OLDEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.tee.snp.layout import Cpuid, Product

__all__ = ["ORDER", "Backend", "Datum", "find", "inside"]

ORDER = ("snp", "tdx", "sgx", "kvm", "nil")
"""From the strongest: the first two run whole VMs that the host cannot read; the last two protect nobody from it."""
SNP_KERNEL, TDX_KERNEL = (6, 11), (6, 16)
KVM, TCG = "KVM", "QEMU's emulation (TCG), which is slower"
"""What makes a virtual machine fast, or not."""
KEEP = 5 << 20
"""Bytes that Enarx says a Keep locks in memory."""
QGS = ("/var/run/tdx-qgs/qgs.socket", "/run/tdx-qgs/qgs.socket")
AESM = "/var/run/aesmd/aesm.socket"
TSM = "/sys/kernel/config/tsm/report"
GUESTS = (("snp", "/dev/sev-guest"), ("tdx", "/dev/tdx_guest"), ("tdx", "/dev/tdx-guest"))


@dataclass(frozen=True, slots=True)
class Datum:
    """One thing that was looked at.

    Args:
        info: what was found. mesg: what to do about it, a sentence. command: what to type.
        needed: without it the backend does not work. data: what is below it.
    """

    name: str
    passed: bool
    info: str | None = None
    mesg: str | None = None
    command: str | None = None
    needed: bool = True
    data: tuple[Datum, ...] = ()

    def missing(self) -> tuple[Datum, ...]:
        """This and what is below it, as far as it is needed and not there."""
        own = (self,) if self.needed and not self.passed else ()
        return (*own, *(one for child in self.data for one in child.missing()))


@dataclass(frozen=True, slots=True)
class Backend:
    """What can hold a Keep.

    Args:
        hardware: whether the processor is one for it; what is missing beside that can be had.
        protects: whether it keeps the host out. runs: whether this version of Donjon starts Keeps in it.
    """

    name: str
    data: tuple[Datum, ...]
    hardware: bool
    protects: bool
    runs: bool = True
    mesg: str | None = None
    missing: tuple[Datum, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "missing", tuple(one for datum in self.data for one in datum.missing()))

    @property
    def passed(self) -> bool:
        """Whether all that it needs is there."""
        return not self.missing


def find(machine: Machine) -> tuple[Backend, ...]:
    """All but nil, which needs an engine and TLS and no machine: see `facts.py`."""
    return kvm(machine), snp(machine), tdx(machine), sgx(machine)


def kvm(machine: Machine) -> Backend:
    """A plain virtual machine; without KVM, QEMU emulates the processor."""
    works = machine.kvm().works
    return Backend(
        "kvm",
        (
            *_kvm(machine, needed=False),
            Datum("Acceleration", works, KVM if works else TCG, needed=False),
            _cpu(machine),
            _qemu(machine, OLDEST),
            _image(machine),
        ),
        hardware=_is_linux_x86(machine),
        protects=False,
        mesg="kvm protects nobody from the host. Where KVM does not work, QEMU emulates the processor: the Keep is the "
        "same, and slower.",
    )


def snp(machine: Machine) -> Backend:
    """AMD SEV-SNP."""
    from donjon.tee.snp.backend import MIN_QEMU

    vendor, brand = _vendor(machine), _brand(machine)
    amd = vendor == "AuthenticAMD"
    eax, ebx, ecx, edx = machine.cpuid(0x8000001F) or (0, 0, 0, 0)
    amd_only = "It takes an AMD EPYC of the 7003 series or later."
    bios = "Switch it on in the BIOS: SMEE, SEV-SNP support, a minimum ASID above 1, and the RMP table's memory."
    sev = (
        Datum("Number of encrypted guests supported simultaneously", ecx > 0, str(ecx), None if ecx else bios),
        Datum(
            "Minimum ASID value for SEV-enabled, SEV-ES disabled guest", edx > 1, str(edx), None if edx > 1 else bios
        ),
    )
    sme = (
        Datum("Physical address bit reduction", eax & 1 != 0, str(ebx >> 6 & 0x3F)),
        Datum("C-bit location in page table entry", eax & 1 != 0, str(ebx & 0x3F)),
    )
    cpu = Datum(
        "CPU", amd, brand, None if amd else amd_only,
        data=(
            Datum("Microcode support", "EPYC" in (brand or ""), _product(machine), None if amd else amd_only),
            Datum("Secure Memory Encryption (SME)", eax & 1 != 0, None, None if eax & 1 else bios, data=sme),
            Datum("Secure Encrypted Virtualization (SEV)", eax & 2 != 0, None, None if eax & 2 else bios, data=sev),
            Datum(
                "Secure Encrypted Virtualization Secure Nested Paging (SEV-SNP)", eax & 16 != 0, None,
                None if eax & 16 else bios,
            ),
            Datum("Page Flush MSR available", eax & 4 != 0, None, needed=False),
        ),
    )  # fmt: skip
    enabled = machine.text("/sys/module/kvm_amd/parameters/sev_snp")
    on = enabled in ("1", "Y")
    kernel = _kernel(machine, SNP_KERNEL, "Debian 12 has one in bookworm-backports.")
    driver = _device(
        machine, "/dev/sev", "The kernel's module ccp makes it where SEV is switched on in the BIOS.",
        "sudo modprobe ccp",
        data=(
            Datum(
                "SEV-SNP is enabled in host kernel", on, enabled,
                None if on else "The module kvm_amd has to be loaded with sev_snp=1; the kernel's log says what it "
                "lacks.",
                None if on else "sudo modprobe -r kvm_amd && sudo modprobe kvm_amd sev_snp=1; sudo dmesg | grep -i sev",
            ),
        ),
    )  # fmt: skip
    data = (
        kernel,
        driver,
        *_kvm(machine, needed=True),
        cpu,
        _memlock(machine),
        *(_snp_collateral(machine) if eax & 16 else ()),
        _qemu(machine, MIN_QEMU),
        _firmware(machine, "snp"),
        _image(machine),
    )
    return Backend("snp", data, hardware=amd and eax & 16 != 0, protects=True)


def tdx(machine: Machine) -> Backend:
    """Intel TDX."""
    from donjon.tee.tdx.backend import MIN_QEMU

    intel = _vendor(machine) == "GenuineIntel"
    parameter = machine.text("/sys/module/kvm_intel/parameters/tdx")
    on = parameter in ("1", "Y")
    socket = next((path for path in QGS if machine.kind(path) == "socket"), None)
    data = (
        _kernel(machine, TDX_KERNEL, "Debian builds its kernels without TDX for hosts."),
        *_kvm(machine, needed=True),
        Datum(
            "CPU", intel, _brand(machine),
            None if intel else "It takes an Intel Xeon of the fifth generation, some of the fourth, or later.",
        ),
        Datum(
            "TDX is enabled in host kernel", on, parameter,
            None if on else "Switch TDX on in the BIOS (TME, TME-MT, SEAM loader), and load kvm_intel with tdx=1.",
            None if on else "sudo modprobe -r kvm_intel && sudo modprobe kvm_intel tdx=1; sudo dmesg | grep -i tdx",
        ),
        Datum(
            "Quote Generation Service (QGS) Socket", socket is not None, socket,
            None if socket else "Keeps start without it, but have no evidence: install Intel's package tdx-qgs; it may "
            "also listen on vsock port 4050, which cannot be seen from here.",
            None if socket else "sudo systemctl enable --now qgsd", needed=False,
        ),
        _qemu(machine, MIN_QEMU),
        _firmware(machine, "tdx"),
        _image(machine),
    )  # fmt: skip
    return Backend("tdx", data, hardware=intel and parameter is not None, protects=True)


def sgx(machine: Machine) -> Backend:
    """Intel SGX."""
    intel = _vendor(machine) == "GenuineIntel"
    leaf7 = machine.cpuid(7) or (0, 0, 0, 0)
    has = intel and leaf7[1] >> 2 & 1 == 1
    first = (machine.cpuid(0x12) if has else None) or (0, 0, 0, 0)
    second = (machine.cpuid(0x12, 1) if has else None) or (0, 0, 0, 0)
    bios = "Switch SGX on in the BIOS; it takes an Intel Xeon with SGX."
    epc = _epc(machine) if has else 0
    details = (
        Datum("Version 1", first[0] & 1 != 0, None, None if first[0] & 1 else bios),
        Datum("Version 2", first[0] & 2 != 0, None, None if first[0] & 2 else bios),
        Datum("FLC Support", leaf7[2] >> 30 & 1 == 1, None, None if leaf7[2] >> 30 & 1 else bios),
        Datum("Max Size (32-bit)", first[3] & 0xFF > 0, _size(1 << (first[3] & 0xFF)) if first[3] & 0xFF else None),
        Datum(
            "Max Size (64-bit)", first[3] >> 8 & 0xFF > 0,
            _size(1 << (first[3] >> 8 & 0xFF)) if first[3] >> 8 & 0xFF else None,
        ),
        Datum("MiscSelect", has, f"{first[1]:#010x}"),
        Datum("Features", has, f"{second[0] | second[1] << 32:#018x}"),
        Datum("Xfrm", has, f"{second[2] | second[3] << 32:#018x}"),
        Datum("EPC Size", epc > 0, _size(epc) if epc else None, None if epc else bios),
    )  # fmt: skip
    aesm = machine.kind(AESM) == "socket"
    data = (
        _device(machine, "/dev/sgx_enclave", "Linux 5.11 has it where SGX is switched on in the BIOS.", None),
        Datum(
            "CPU", intel, _brand(machine), None if intel else "It takes an Intel Xeon with SGX.",
            data=(Datum("SGX Support", has, None, None if has else bios, data=details if has else ()),),
        ),
        *(_sgx_collateral(machine) if has else ()),
        Datum(
            "AESM Daemon Socket", aesm, AESM if aesm else None,
            None if aesm else "Install Intel's package sgx-aesm-service.",
            None if aesm else "sudo systemctl enable --now aesmd",
        ),
    )  # fmt: skip
    return Backend(
        "sgx", data, hardware=has, protects=True, runs=False,
        mesg="This version of donjon starts no Keeps in SGX; it judges evidence of SGX, and takes it under Gramine.",
    )  # fmt: skip


def inside(machine: Machine) -> tuple[str | None, tuple[Datum, ...]]:
    """Whether the machine is itself a confidential VM, as far as can be seen without asking for evidence.

    Returns:
        The TEE, None for none; and what was looked at.
    """
    found = next(((tee, path) for tee, path in GUESTS if machine.kind(path)), None)
    if found is None and "arm-cca-dev" in machine.names("/sys/bus/platform/devices"):
        found = ("cca", "/sys/bus/platform/devices/arm-cca-dev")
    if found is None and _text(machine.cpuid(0x21), (1, 3, 2)) == "IntelTDX    ":
        found = ("tdx", "CPUID leaf 21h")
    directory = machine.kind(TSM) == "directory"
    writable = "w" in machine.may(TSM) if directory else False
    need = found is not None
    mesg = "Linux 6.7 and later has it." if need and not directory else "Only root may ask." if need else None
    command = "sudo modprobe tsm; sudo mount -t configfs none /sys/kernel/config" if need and not directory else None
    return (
        found[0] if found else None,
        (
            Datum("Guest of a TEE", need, found[1] if found else None, needed=False),
            Datum(
                "configfs-tsm", directory and writable, TSM if directory else None,
                None if directory and writable else mesg, None if writable else command, needed=need,
            ),
        ),
    )  # fmt: skip


# What several have


def _kvm(machine: Machine, needed: bool) -> tuple[Datum, ...]:
    found = machine.kvm()
    there = found.state not in ("absent", "forbidden")
    command = found.hint if found.hint and found.hint.startswith("sudo") else None
    mesg = _sentences(found.problem, "" if command else found.hint or "") or None
    api = Datum(
        "API Version", found.api == 12, None if found.api is None else str(found.api),
        mesg if found.state == "version" else None, needed=needed,
    )  # fmt: skip
    pace = Datum(
        "Runs guests at the processor's pace", found.works,
        None if found.seconds is None else f"{found.seconds * 1000:.1f} ms for 600 000 instructions",
        None if found.state == "version" else mesg, command, needed=needed,
    )  # fmt: skip
    driver = Datum(
        "Driver", there, "/dev/kvm", None if there else mesg, None if there else command, needed=needed,
        data=(api, pace) if there else (),
    )  # fmt: skip
    return (driver,)


def _cpu(machine: Machine) -> Datum:
    leaf7, leaf1 = machine.cpuid(7) or (0, 0, 0, 0), machine.cpuid(1) or (0, 0, 0, 0)
    fsgsbase, rdrand = leaf7[1] & 1 == 1, leaf1[2] >> 30 & 1 == 1
    late = "It takes a processor of 2012 or later."
    good = _is_linux_x86(machine)
    return Datum(
        "CPU", good, _brand(machine), None if good else "VM Keeps take Linux on x86-64: on this machine use nil.",
        data=(
            Datum("CPU supports FSGSBASE instructions", fsgsbase, None, None if fsgsbase else late, needed=False),
            Datum("CPU supports RDRAND instruction", rdrand, None, None if rdrand else late, needed=False),
        ),
    )  # fmt: skip


def _is_linux_x86(machine: Machine) -> bool:
    name, _, _, processor = machine.system()
    return (name, processor) == ("Linux", "x86_64")


def _device(machine: Machine, path: str, absent: str, command: str | None, data: tuple[Datum, ...] = ()) -> Datum:
    there, may = machine.kind(path) == "device", machine.may(path)
    if there and may != "rw":
        mesg, command = "This user may not use it.", f"sudo setfacl -m u:$USER:rw {path}"
    else:
        mesg = absent
    good = there and may == "rw"
    return Datum("Driver", good, path, None if good else mesg, None if good else command, data=data)


def _kernel(machine: Machine, oldest: tuple[int, int], where: str) -> Datum:
    name, release, _, _ = machine.system()
    match = re.match(r"(\d{1,4})\.(\d{1,4})", release)
    good = name == "Linux" and match is not None and (int(match[1]), int(match[2])) >= oldest
    need = f"{oldest[0]}.{oldest[1]}"
    return Datum("Host kernel", good, f"{name} {release}", None if good else f"It takes Linux {need} or later. {where}")


def _qemu(machine: Machine, oldest: tuple[int, int]) -> Datum:
    version, path, get = machine.qemu()
    need = ".".join(map(str, oldest))
    if version is None:
        return Datum("QEMU", False, None, f"{path[:1].upper()}{path[1:]}. It takes {need} or later.", get or None)
    good = version >= oldest
    info = f"{'.'.join(map(str, version))} ({path})"
    return Datum("QEMU", good, info, None if good else f"It takes QEMU {need} or later, on Debian from backports.")


def _firmware(machine: Machine, kind: str) -> Datum:
    path, problem, hint = machine.firmware(kind)
    return Datum("Firmware", path is not None, path, None if path else _sentences(problem, hint))


def _image(machine: Machine) -> Datum:
    path, problem, hint = machine.image()
    command = re.match(r"`(donjon [a-z ]+)`", hint)
    return Datum(
        "Guest image", path is not None, path,
        None if path else _sentences(problem, "" if command else hint), command[1] if command and not path else None,
    )  # fmt: skip


def _sentences(*parts: str) -> str:
    """Parts of messages as sentences."""
    return " ".join(f"{part[:1].upper()}{part[1:]}." for part in parts if part)


def _memlock(machine: Machine) -> Datum:
    limit = machine.memlock()
    keeps = None if limit is None else limit // KEEP
    info = "any number of Keeps" if keeps is None else f"~{keeps} Keeps"
    mesg = "Raise the limit `memlock` in /etc/security/limits.conf."
    good = keeps is None or keeps > 0
    return Datum("MEMLOCK rlimit allows for", good, info, None if good else mesg, needed=False)


# Collateral: a Keep has evidence without it where the Steward fetches it, so none of it is needed.


def _snp_collateral(machine: Machine) -> tuple[Datum, ...]:
    folder = machine.caches()["amd"]
    update = "sudo donjon platform snp update"
    status, chip = machine.sev_status(), machine.chip_id()
    product = product_of(machine)
    name = "SEV-SNP VCEK key cache file"
    if isinstance(status, str):
        vcek = Datum(name, False, None, _sentences(status), needed=False)
    elif status.vlek:
        vcek = Datum(name, True, "not used: reports are signed with a VLEK, and bring its certificate", needed=False)
    elif isinstance(chip, str) or product is None:
        why = chip if isinstance(chip, str) else "this processor is of no product that AMD has certificates for"
        vcek = Datum(name, False, None, _sentences(why), needed=False)
    else:
        file = vcek_name(product, chip, status.reported_tcb)
        there = file in machine.names(folder)
        mesg = None if there else "The certificate of this chip at its TCB is not there yet."
        vcek = Datum(
            name, there, f"{folder}/{file}" if there else None, mesg,
            None if there else update, needed=False,
        )  # fmt: skip
    firmware = Datum(
        "SEV-SNP firmware", not isinstance(status, str),
        None if isinstance(status, str) else "{}.{} build {}, {}".format(*status.version, status.state),
        needed=False,
    )  # fmt: skip
    return firmware, vcek, _crls(machine, "AMD", f"{folder}/crls.der", "sudo donjon platform snp cache-crl")


def _sgx_collateral(machine: Machine) -> tuple[Datum, ...]:
    folder = machine.caches()["intel"]
    tcb = "tcb.der" in machine.names(folder)
    fmspc = machine.text(f"{folder}/fmspc.txt")
    mesg = None if tcb and fmspc else "Missing FMSPC." if not fmspc else "Missing TCB report."
    command = None if mesg is None else f"sudo donjon platform sgx cache-{'tcb' if fmspc else 'pck'}"
    return (
        _crls(machine, "Intel", f"{folder}/crls.der", "sudo donjon platform sgx cache-crl"),
        Datum("TCB & FMSPC cache", mesg is None, fmspc, mesg, command, needed=False),
    )


def _crls(machine: Machine, vendor: str, path: str, command: str) -> Datum:
    from donjon.platform.caching import ends

    name = f"{vendor} CRL cache file"
    data = machine.data(path)
    if data is None:
        return Datum(name, False, None, f"{path} is not there.", command, needed=False)
    try:
        end: datetime | None = ends(data)
    except ParseError as error:
        return Datum(name, False, path, f"{path}: {error.message}.", command, needed=False)
    if end is None or end <= machine.now():
        return Datum(
            name, False, path, f"{path} has ended{f' on {end:%Y-%m-%d}' if end else ''}.", command, needed=False
        )
    return Datum(name, True, f"{path}, until {end:%Y-%m-%d}", needed=False)


# The processor


def product_of(machine: Machine) -> Product | None:
    """AMD's product, which names roots and certificates."""
    from donjon.tee.snp.layout import Product

    found = machine.cpuid(1)
    if found is None or _vendor(machine) != "AuthenticAMD":
        return None
    return Product.of_cpuid(family_model(found[0]))


def family_model(eax: int) -> Cpuid:
    """Family, model and stepping of CPUID leaf 1, extensions added. Source: AMD64 APM volume 3, Fn0000_0001_EAX."""
    from donjon.tee.snp.layout import Cpuid

    family = (eax >> 8 & 0xF) + (eax >> 20 & 0xFF)
    return Cpuid(family=family, model=eax >> 4 & 0xF | eax >> 12 & 0xF0, stepping=eax & 0xF)


def vcek_name(product: Product, chip_id: bytes, tcb: bytes) -> str:
    """The name of a VCEK's file: Enarx's for Milan and Genoa (bootloader, tee, snp, microcode), FMC first on Turin."""
    from donjon.tee.snp.layout import Tcb

    parts = "-".join(f"{number:02d}" for number in Tcb.read(tcb, product).parts().values())
    return f"vcek-{chip_id[: product.chip_id_size].hex()}-{parts}"


def _product(machine: Machine) -> str | None:
    found = product_of(machine)
    return None if found is None else found.name


def _vendor(machine: Machine) -> str | None:
    return _text(machine.cpuid(0), (1, 3, 2))


def _brand(machine: Machine) -> str | None:
    """The name that a processor gives itself, or a device tree to its board."""
    parts = [machine.cpuid(0x80000002 + number) for number in range(3)]
    text = "".join(filter(None, (_text(part, (0, 1, 2, 3)) for part in parts)))
    if not text:
        text = machine.text("/proc/device-tree/model") or ""
    return " ".join(text.replace("\0", " ").split()) or None


def _text(registers: tuple[int, int, int, int] | None, order: tuple[int, ...]) -> str | None:
    if registers is None:
        return None
    return b"".join(struct.pack("<I", registers[number]) for number in order).decode("ascii", "replace")


def _epc(machine: Machine) -> int:
    """Bytes of protected memory. Source: Intel SDM volume 3D, CPUID leaf 12H, subleaves 2 and up."""
    total = 0
    for number in range(2, 34):
        found = machine.cpuid(0x12, number)
        if found is None or found[0] & 0xF != 1:
            break
        total += found[2] & 0xFFFFF000 | (found[3] & 0xFFFFF) << 32
    return total


def _size(number: int) -> str:
    for power, unit in ((60, "EiB"), (50, "PiB"), (40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if number >> power:
            return f"{number / (1 << power):g} {unit}"
    return f"{number} bytes"
