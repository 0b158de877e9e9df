"""Records of machines, as `donjon platform record` writes them. All are constructed: the leaves' layout is that of the
vendors' manuals, family and model are those of the products named, the other numbers are made up.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

NOW = "2026-06-01T12:00:00+00:00"
CHIP = bytes(range(64))
TCB = bytes((4, 0, 0, 0, 0, 0, 24, 219))
VCEK = f"vcek-{CHIP.hex()}-04-00-24-219"
QEMU = [[10, 1, 0], "/usr/bin/qemu-system-x86_64", ""]
IMAGE = ["/home/ada/.cache/donjon/image/images/production-00", "", ""]
NO_QEMU = [None, "cannot start a virtual machine: there is no qemu-system-x86_64 in PATH", "sudo apt-get install q"]
NO_IMAGE = [None, "no image in /home/ada/.cache/donjon/image/images/production-00", "`donjon image build` makes it"]
WORKS = {"state": "works", "api": 12, "seconds": 0.0004, "modules": ["kvm_amd"]}
X86 = {"00000007.0": [0, 1, 0, 0], "00000001.0": [0, 0, 1 << 30, 0]}


def text(words: str, order: tuple[int, ...]) -> list[int]:
    """Registers that hold a text, in this order."""
    found = [0, 0, 0, 0]
    for place, number in zip(order, struct.unpack(f"<{len(order)}I", words.encode()), strict=True):
        found[place] = number
    return found


def brand(words: str) -> dict[str, list[int]]:
    padded = words.ljust(48, "\0")
    return {f"8000000{2 + part}.0": text(padded[16 * part : 16 * part + 16], (0, 1, 2, 3)) for part in range(3)}


AMD = {"00000000.0": text("AuthenticAMD", (1, 3, 2))}
INTEL = {"00000000.0": text("GenuineIntel", (1, 3, 2))}
LINUX = ["Linux", "6.17.0", "#1 SMP", "x86_64"]

MACHINES: dict[str, dict[str, Any]] = {
    "snp-host": {
        "system": LINUX,
        "cpuid": {
            **X86, **AMD, **brand("AMD EPYC 7313P 16-Core Processor"),
            "00000001.0": [0x00A00F11, 0, 1 << 30, 0],
            "8000001f.0": [0x1F, 51 | 5 << 6, 509, 100],
        },
        "kinds": {"/dev/sev": "device", "/dev/kvm": "device"},
        "may": {"/dev/sev": "rw", "/dev/kvm": "rw"},
        "files": {"/sys/module/kvm_amd/parameters/sev_snp": "Y\n"},
        "names": {"/var/cache/amd-sev": [VCEK, "crls.der"]},
        "kvm": WORKS,
        "qemu": QEMU, "image": IMAGE, "firmware": {"snp": ["/usr/share/ovmf/OVMF.amdsev.fd", "", ""]},
        "sev_status": {
            "version": [1, 55, 21], "state": "initialized", "guests": 0, "current_tcb": TCB.hex(),
            "reported_tcb": TCB.hex(),
        },
        "chip_id": {"hex": CHIP.hex()},
        "memlock": 5 << 23,
    },
    "tdx-host": {
        "system": LINUX,
        "cpuid": {**X86, **INTEL, **brand("INTEL(R) XEON(R) PLATINUM 8581C")},
        "kinds": {"/dev/kvm": "device", "/var/run/tdx-qgs/qgs.socket": "socket"},
        "may": {"/dev/kvm": "rw"},
        "files": {"/sys/module/kvm_intel/parameters/tdx": "Y\n"},
        "kvm": {**WORKS, "modules": ["kvm_intel"]},
        "qemu": QEMU, "image": IMAGE, "firmware": {"tdx": ["/usr/share/ovmf/OVMF.fd", "", ""]},
    },
    "sgx-host": {
        "system": LINUX,
        "cpuid": {
            **X86, **INTEL, **brand("Intel(R) Xeon(R) Gold 6338 CPU"),
            "00000007.0": [0, 1 | 1 << 2, 1 << 30, 0],
            "00000012.0": [3, 1, 0, 0x381F], "00000012.1": [0x36, 0, 0xE7, 0],
            "00000012.2": [1, 0, 1, 2], "00000012.3": [0, 0, 0, 0],
        },
        "kinds": {"/dev/sgx_enclave": "device", "/dev/kvm": "device", "/var/run/aesmd/aesm.socket": "socket"},
        "may": {"/dev/sgx_enclave": "rw", "/dev/kvm": "rw"},
        "files": {"/var/cache/intel-sgx/fmspc.txt": "00606a000000"},
        "names": {"/var/cache/intel-sgx": ["fmspc.txt", "tcb.der"]},
        "kvm": {**WORKS, "modules": ["kvm_intel"]},
        "qemu": NO_QEMU, "image": NO_IMAGE,
    },
    "snp-guest": {
        "system": LINUX,
        "cpuid": {**X86, **AMD, **brand("AMD EPYC-Milan")},
        "kinds": {"/dev/sev-guest": "device", "/sys/kernel/config/tsm/report": "directory"},
        "may": {"/sys/kernel/config/tsm/report": "rw"},
    },
    "tdx-guest": {
        "system": LINUX,
        "cpuid": {**X86, **INTEL, "00000021.0": text("IntelTDX    ", (1, 3, 2))},
        "kinds": {"/dev/tdx_guest": "device", "/sys/kernel/config/tsm/report": "directory"},
        "may": {"/sys/kernel/config/tsm/report": "rw"},
    },
    "laptop": {
        "system": ["Linux", "6.1.0-40-amd64", "#1 SMP", "x86_64"],
        "cpuid": {**X86, **INTEL, **brand("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz")},
        "kinds": {"/dev/kvm": "device"}, "may": {"/dev/kvm": "rw"},
        "kvm": {**WORKS, "modules": ["kvm_intel"]}, "qemu": QEMU, "image": IMAGE,
    },
    "new-laptop": {  # the same as it comes: nothing is installed, the user is in no group
        "system": ["Linux", "6.1.0-40-amd64", "#1 SMP", "x86_64"],
        "cpuid": {**X86, **INTEL, **brand("Intel(R) Core(TM) i5-8250U CPU @ 1.60GHz")},
        "kinds": {"/dev/kvm": "device"},
        "kvm": {
            "state": "forbidden", "problem": "cannot open /dev/kvm: permission denied",
            "hint": "sudo usermod -aG kvm $USER && newgrp kvm", "modules": ["kvm_intel"],
        },
        "qemu": NO_QEMU, "image": NO_IMAGE,
    },
    "container": {
        "system": LINUX,
        "cpuid": {**X86, **INTEL, **brand("Intel(R) Xeon(R) CPU @ 2.20GHz")},
        "kvm": {
            "state": "absent", "problem": "/dev/kvm: no such file or directory",
            "hint": "the module is loaded: in a container, start that with --device /dev/kvm", "modules": ["kvm_intel"],
        },
        "qemu": QEMU, "image": IMAGE,
    },
    "nested": {  # a virtual machine without virtualization, whose kernel has kvm_pvm
        "system": LINUX,
        "cpuid": {**X86, **AMD, **brand("AMD EPYC")},
        "kinds": {"/dev/kvm": "device"}, "may": {"/dev/kvm": "rw"},
        "kvm": {
            "state": "emulated", "api": 12, "seconds": 0.5, "modules": ["kvm_pvm"],
            "problem": "KVM is itself emulated on this machine, and slower: 600 000 instructions took it 0.50 s",
            "hint": "on a virtual machine, ask for nested virtualization",
        },
        "qemu": QEMU, "image": IMAGE,
    },
    "raspberry-pi": {
        "system": ["Linux", "6.12.34+rpt-rpi-v8", "#1 SMP PREEMPT", "aarch64"],
        "files": {"/proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0"},
        "kvm": {"state": "absent", "problem": "/dev/kvm: no such file or directory"},
        "qemu": NO_QEMU, "image": NO_IMAGE,
    },
    "raspberry-pi-kvm": {
        "system": ["Linux", "6.12.34+rpt-rpi-2712", "#1 SMP PREEMPT", "aarch64"],
        "files": {"/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0"},
        "kinds": {"/dev/kvm": "device"}, "may": {"/dev/kvm": "rw"},
        "kvm": {"state": "foreign", "problem": "no guest was made for this kind of processor to try KVM with"},
        "qemu": NO_QEMU, "image": NO_IMAGE,
    },
    "mac": {
        "system": ["Darwin", "24.5.0", "Darwin Kernel Version 24.5.0", "arm64"],
        "kvm": {"state": "absent", "problem": "KVM is a part of Linux, and this is another system"},
        "qemu": NO_QEMU, "image": NO_IMAGE,
    },
}  # fmt: skip
# The SNP host as it often is at first.
MACHINES["snp-forbidden"] = {
    **MACHINES["snp-host"],
    "may": {},
    "kvm": {**MACHINES["new-laptop"]["kvm"], "modules": ["kvm_amd"]},
    "sev_status": "cannot open /dev/sev: permission denied",
    "chip_id": {"problem": "cannot open /dev/sev: permission denied"},
}
MACHINES["snp-old-kernel"] = {
    **MACHINES["snp-host"],
    "system": ["Linux", "6.1.0-40-amd64", "#1 SMP", "x86_64"],
    "files": {},
    "sev_status": "/dev/sev: SNP_PLATFORM_STATUS: invalid argument",
    "qemu": [[7, 2, 22], "/usr/bin/qemu-system-x86_64", ""],
    "firmware": {
        "snp": [None, "no firmware for confidential guests", "install OVMF.amdsev.fd of Debian's ovmf-amdsev"]
    },
}


def document(name: str, **changes: Any) -> tuple[bytes, dict[str, Any]]:
    """The record of one, and the files beside it; what `changes` holds is joined to its tables, or replaces values."""
    machine: dict[str, Any] = {"memlock": 8 << 20, **MACHINES[name]}
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(machine.get(key), dict)
        machine[key] = {**machine[key], **value} if both else value
    files: dict[str, Any] = machine.pop("files", {})
    cpuid = {leaf: [f"{number:08x}" for number in numbers] for leaf, numbers in machine.pop("cpuid", {}).items()}
    return json.dumps({"format": 1, "source": "constructed", "now": NOW, **machine, "cpuid": cpuid}).encode(), files


def write(folder: Path, name: str, **changes: Any) -> str:
    """Write the record of one, with changes."""
    data, files = document(name, **changes)
    folder.mkdir(parents=True)
    (folder / "machine.json").write_bytes(data)
    for path, content in files.items():
        if content is not None:
            place = folder / "files" / path[1:]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder)
