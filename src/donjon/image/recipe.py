"""What goes into the image, as data: where the program starts, what it loads by computed names, what stays out and why.

The rest follows: Python modules from imports (`reach`), libraries from what the loader will look for (`elf.needed`),
kernel modules from what they say of themselves (`kernel.load_order`).
"""

from __future__ import annotations

__all__ = [
    "COMMAND_LINES", "DENIED", "ENTRY", "HIDDEN", "INIT", "KERNEL_MODULES", "LEVEL", "PYTHON_NEEDS", "SIMULATED_ENTRY",
    "SIMULATED_INIT", "TAKEN", "UNREAL", "VARIANTS", "WINDOW_LOG", "purpose",
]  # fmt: skip

VARIANTS = ("production", "debug", "simulated")
"""What is run; the same with a console; the same with a TEE that proves nothing, for tests."""

ENTRY = "donjon.guest.init"
"""The module whose `main` is process 1."""

INIT = b"""#!/usr/bin/python3.11 -ISBu
import sys
sys.path.append("/usr/lib/donjon")
from donjon.guest.init import main
main()
"""

SIMULATED_ENTRY = "donjon.sim.inside"
"""What the variant "simulated" has beside all that: its `attach` puts a stand-in where a TEE's interface would be."""

SIMULATED_INIT = b"""#!/usr/bin/python3.11 -ISBu
import sys
sys.path.append("/usr/lib/donjon")
from donjon.guest.init import main
from donjon.sim.inside import attach
main(attach)
"""

PYTHON_NEEDS = (
    "encodings.ascii", "encodings.latin_1", "encodings.utf_8",  # looked up by name when the interpreter starts
    "encodings.idna",  # how a host's name becomes bytes, in `socket` and `ssl`
)  # fmt: skip

_FAMILIES = ("args", "clock", "environ", "fd", "path", "poll", "proc", "random", "sched", "sock")

HIDDEN: dict[str, tuple[str, ...]] = {
    "donjon.wasm.wasi.p1": tuple(f"donjon.wasm.wasi.p1.{family}" for family in _FAMILIES),
    "donjon.keep.attest": ("donjon.tee.kvm.collect", "donjon.tee.snp.collect", "donjon.tee.tdx.collect"),
    "cryptography.hazmat.bindings._rust": ("_cffi_backend",),
    "msgspec._core": ("collections", "datetime", "decimal", "enum", "msgspec._utils", "re", "typing", "uuid"),
    "_decimal": ("collections", "numbers"),
}
"""Module -> what it loads by a name that it computes, or from C."""

DENIED: dict[str, str] = {
    "donjon.cli": "nobody types words inside",
    "donjon.image": "an image is not built inside one",
    "donjon.tee.sgx": "an enclave is no virtual machine",
    "donjon.tee.cca": "this image is for x86-64",
    "donjon.steward.serve": "a Keep asks a Steward, and is none",
    "donjon.steward.app": "a Keep asks a Steward, and is none",
    "donjon.steward.depot": "a Keep asks a Steward, and is none",
    "donjon.steward.record": "a Keep asks a Steward, and is none",
    "donjon.wasm.engine.cache": "code that was compiled outside is not run, and nothing inside lives long enough",
    "argparse": "the main program of modules that can be run as a script",
    "pdb": "for people at a terminal", "bdb": "for people at a terminal", "cmd": "for people at a terminal",
    "code": "for people at a terminal", "codeop": "for people at a terminal",
    "readline": "for people at a terminal", "rlcompleter": "for people at a terminal",
    "getpass": "for people at a terminal", "gettext": "for people at a terminal",
    "pprint": "for people at a terminal", "pydoc": "for people at a terminal",
    "pydoc_data": "for people at a terminal", "tty": "for people at a terminal",
    "webbrowser": "for people at a terminal", "shlex": "there is no shell",
    "doctest": "for tests", "test": "for tests", "unittest": "for tests", "_testcapi": "for tests",
    "_testinternalcapi": "for tests", "tracemalloc": "for finding leaks, elsewhere",
    "ntpath": "another system's", "nturl2path": "another system's", "_osx_support": "another system's",
    "_aix_support": "another system's", "_bootsubprocess": "for building Python", "distutils": "for building Python",
    "sysconfig": "for building Python", "py_compile": "there is no source to compile", "_pyio": "what `io` has in C",
    "_py_abc": "what `abc` has in C", "_pydecimal": "what `decimal` has in C", "_threading_local": "`_thread` has it",
    "asyncio": "one thread, one loop of our own", "_asyncio": "one thread, one loop of our own",
    "concurrent": "one thread, one loop of our own", "multiprocessing": "one thread, one loop of our own",
    "_multiprocessing": "one thread, one loop of our own", "_posixshmem": "one thread, one loop of our own",
    "queue": "one thread, one loop of our own", "_queue": "one thread, one loop of our own",
    "bz2": "nothing is unpacked inside", "_bz2": "nothing is unpacked inside",
    "_compression": "nothing is unpacked inside",
    "gzip": "nothing is unpacked inside", "lzma": "nothing is unpacked inside", "_lzma": "nothing is unpacked inside",
    "tarfile": "nothing is unpacked inside", "zipfile": "nothing is unpacked inside",
    "zipimport": "nothing is unpacked inside; the interpreter has its own copy",
    "xml": "no such format is read", "xmlrpc": "no such protocol", "html": "no such format is read",
    "csv": "no such format is read", "plistlib": "no such format is read", "netrc": "no such file",
    "mimetypes": "no such file", "ftplib": "no such protocol", "smtplib": "no such protocol",
    "socketserver": "no such protocol", "http.server": "no such protocol", "http.cookiejar": "no such protocol",
    "urllib.request": "the Steward is asked through http.client", "urllib.error": "belongs to urllib.request",
    "urllib.robotparser": "belongs to urllib.request", "email.contentmanager": "letters are not written",
    "email.generator": "letters are not written", "email.headerregistry": "letters are not written",
    "email._header_value_parser": "letters are not written", "email.mime": "letters are not written",
    "email.policy": "letters are not written",  "pickle": "objects are not read from bytes",
    "_compat_pickle": "belongs to pickle", "runpy": "process 1 runs one module",
    "pkgutil": "modules are not listed", "importlib.metadata": "packages are not listed",
    "logging": "`donjon.log` has it",
    "statistics": "a check in `random`, which nobody calls", "fractions": "numbers here are whole",
    "getopt": "no command line", "_strptime": "times come in one form",
    "_uuid": "no such names are made", "_typing": "the interpreter has it built in",
    "importlib._bootstrap": "the interpreter has its own copy",
    "importlib._bootstrap_external": "the interpreter has its own copy", "encodings.mbcs": "another system's",
}  # fmt: skip
"""Modules that nothing inside needs, with what is below them, and why; a test that boots the image tries all others."""

UNREAL = {"donjon.sim": "simulated hardware has no place where real evidence is made"}
"""The same, in every variant but the simulated one."""

KERNEL_MODULES = ("configfs", "tsm", "sev-guest", "tdx-guest", "virtio_net")
"""What is loaded, beside what these depend on: evidence, and the network. The rest is built in."""

_UNSTARTED = (
    "bpf_tcp_ca_kfunc_init", "bpf_dummy_struct_ops_init",  # parse the kernel's own type information, for BPF programs
    "trace_eval_init",  # names for tracing
    "jent_mod_init",  # tests a source of randomness that only the kernel's crypto interfaces would use
    "crypto_kdf108_init", "init_encrypted",  # key derivation and keys, which are for nobody here
    "msr_init",  # a device for reading the processor's registers
)  # fmt: skip
"""Parts of the kernel that are built in, that nothing inside needs, and that cost a start 0.3 s where it is emulated. A
kernel that has no such part does not mind the name."""

_COMMON = (
    # Not a tmpfs: it would hold half of the memory at most, and a machine of 176 MiB has not twice what is unpacked.
    "panic=-1 oops=panic rdinit=/init rootfstype=ramfs lockdown=confidentiality module.sig_enforce=1 "
    "random.trust_bootloader=off "
    # Not tsc=reliable: on a busy host the kernel may take an emulated processor for seven times slower than it is, and
    # with it time runs seven times as fast until the clock is compared with another one, which that would forbid.
    "ipv6.disable=1 debugfs=off no_timer_check "
    # The kernel's own test of its crypto, which checks signatures of modules and nothing else, takes 0.4 s emulated.
    f"cryptomgr.notests initcall_blacklist={','.join(_UNSTARTED)}"
)
COMMAND_LINES = {
    # A console that does not exist: nothing the kernel says can leave, and nothing can be typed.
    "production": f"quiet console=hvc9 8250.nr_uarts=0 {_COMMON}",
    "debug": f"console=ttyS0 earlyprintk=ttyS0 {_COMMON}",
    "simulated": f"quiet console=hvc9 8250.nr_uarts=0 {_COMMON}",
}
"""The kernel's command line, whole: it is measured as it is."""

TAKEN = (
    "boot/vmlinuz-", "lib/modules/", "lib/x86_64-linux-gnu/", "usr/lib/x86_64-linux-gnu/", "usr/bin/python3.11",
    "usr/lib/python3.11/", "usr/share/ca-certificates/mozilla/",
)  # fmt: skip
"""What is unpacked of the distribution's packages, by how paths begin."""

LEVEL = 22
WINDOW_LOG = 24
"""How zstd compresses: a window of 16 MiB, which the kernel has beside what it unpacks."""


_PURPOSES = {
    "wasmtime": "engine: compiles and runs WebAssembly",
    "cryptography": "attestation: keys, requests, certificates",
    "cffi": "attestation: keys, requests, certificates",
    "msgspec": "attestation: policies of TEEs",
    "ca-certificates": "attestation: public roots, for a Steward's certificate",
    "libssl3": "TLS",
    "python3.11-minimal": "Python: interpreter",
    "libpython3.11-minimal": "Python: standard library",
    "libpython3.11-stdlib": "Python: standard library",
    "donjon": "Donjon itself",
}
_PROOFS = tuple(f"usr/lib/donjon/donjon/{part}/" for part in ("identity", "steward", "tee", "verify"))
_TLS = ("lib-dynload/_ssl.", "lib-dynload/_hashlib.", "/ssl.pyc")


def purpose(path: str, package: str) -> str:
    """What a file in the image is for, for people who ask where the megabytes go."""
    if any(part in path for part in _TLS):
        return _PURPOSES["libssl3"]
    if path.startswith(_PROOFS):
        return "attestation: evidence, the Steward, proofs of peers"
    if package.startswith("linux-image-"):
        return "kernel modules: network, evidence"
    return _PURPOSES.get(package, "C library and what the others need of it")
