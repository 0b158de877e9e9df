"""The image, started: it has all that it imports, and its parts work. The machine is emulated, and takes seconds."""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from donjon.image import Image, cpio
from donjon.tee import snp
from tests import images

pytestmark = pytest.mark.slow
TIMEOUT = 110  # seconds, on a machine with much else to do
INIT = b"""#!/usr/bin/python3.11 -ISBu
import sys
sys.path.append("/usr/lib/donjon")
sys.path.append("/probe")
import probe
probe.main()
"""
TRIES = ["modules", "engine", "tls", "certificate", "vendors", "lockdown"]
MODULE = re.compile(
    r"usr/lib/(?:python3\.11/(?:lib-dynload/)?|donjon/)(.+?)(?:\.cpython-311-x86_64-linux-gnu|\.abi3)?\.(?:pyc|so)$"
)


def names(image: Image) -> list[str]:
    """All Python modules in an image."""
    found = []
    for segment in image.manifest["segments"]:
        for path in segment["content"]:
            match = MODULE.match(path)
            if match and not path.endswith("_libwasmtime.so"):
                found.append(match[1].replace("/", ".").removesuffix(".__init__"))
    return found


def machine(memory: str = "320M") -> list[str]:
    """QEMU's words for a machine that is emulated."""
    return [
        images.qemu(), "-M", "q35,graphics=off,usb=off,vmport=off", "-accel", "tcg", "-cpu", "max,-cx16,-erms",
        "-smp", "1", "-m", memory, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
    ]  # fmt: skip


def boot(image: Image, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Start the image with the probe as process 1; what it reports."""
    probe = cpio.write(
        {
            "init": cpio.file(INIT, executable=True),
            "probe/probe.py": cpio.file((Path(__file__).parent / "probe.py").read_bytes()),
            "probe.json": cpio.file(json.dumps(job).encode()),
        }
    )
    initrd = folder / "initrd"
    initrd.write_bytes(Path(image.initrd_raw).read_bytes() + probe)
    console = folder / "console"
    ours, its = socket.socketpair()
    command = [
        *machine(), "-kernel", image.vmlinux,
        "-bios", "qboot.rom", "-initrd", str(initrd), "-append", image.cmdline, "-serial", f"file:{console}",
        "-device", "virtio-serial-pci", "-chardev", f"socket,id=port,fd={its.fileno()}",
        "-device", "virtserialport,chardev=port,name=donjon.probe",
    ]  # fmt: skip
    data = b""
    with its, ours, subprocess.Popen(command, pass_fds=[its.fileno()], stdin=subprocess.DEVNULL) as process:
        its.close()
        ours.settimeout(TIMEOUT)
        try:
            while not data.endswith(b"\n"):
                came = ours.recv(65536)
                if not came:
                    pytest.fail(f"the machine ended: {console.read_text()[-2000:]}")
                data += came
            ours.sendall(b"!")
            process.wait(TIMEOUT)
        finally:
            process.kill()
    found: dict[str, Any] = json.loads(data)
    found["console"] = console.read_text(errors="replace")
    return found


def test_every_module_in_the_image_can_be_imported_there_and_its_parts_work(
    image: Callable[[str], Image], tmp_path: Path
) -> None:
    for variant in ("production", "simulated"):  # debug has the modules of production
        wanted = names(image(variant))
        assert {"donjon.keep.nil", "donjon.guest.init", "ssl", "cryptography.x509"} <= set(wanted)
        assert ("donjon.sim.inside" in wanted) == (variant == "simulated")
        folder = tmp_path / variant
        folder.mkdir()
        found = boot(image(variant), {"modules": wanted, "tries": TRIES}, folder)
        assert found["failed"] == {}
        assert found["python"] == "3.11.2"
        assert set(found["modules"]) >= {"configfs", "tsm", "failover", "net_failover", "virtio_net"}
        assert found["engine"] == ["x"]
        assert found["tls"]["roots"] > 100
        assert found["tls"]["version"].startswith("OpenSSL 3.0.")
        assert found["certificate"] is True
        assert found["vendors"] == {"snp": sorted(snp.vendor_roots().anchors), "tdx": ["SGX Root CA"], "floors": True}
        assert "[confidentiality]" in found["lockdown"]


def test_the_production_image_says_nothing_at_a_console_and_the_debug_image_does(
    image: Callable[[str], Image], tmp_path: Path
) -> None:
    for variant, speaks in (("production", False), ("debug", True)):
        folder = tmp_path / variant
        folder.mkdir()
        found = boot(image(variant), {"modules": [], "tries": []}, folder)
        assert ("Linux version 6.12." in found["console"]) is speaks
        assert bool(found["console"]) is speaks


def opened(image: Image) -> dict[str, bool]:
    """Start the image with its own process 1 and a port for a simulated TEE; QEMU says which of its ports it opened."""
    pairs = {name: socket.socketpair() for name in ("donjon.sallyport", "donjon.simulated-tee", "monitor")}
    ours = {name: pair[0] for name, pair in pairs.items()}
    its = {name: pair[1] for name, pair in pairs.items()}
    # The files that are measured: the kernel unpacks itself, and then three compressed archives in a row.
    command = [*machine("256M"), "-kernel", image.kernel, "-initrd", image.initrd]
    command += ["-append", image.cmdline, "-device", "virtio-serial-pci", "-mon", "chardev=monitor,mode=control"]
    for name, end in its.items():
        command += ["-chardev", f"socket,id={name},fd={end.fileno()}"]
        if name != "monitor":
            command += ["-device", f"virtserialport,chardev={name},name={name}"]
    with ExitStack() as stack:
        for end in (*its.values(), *ours.values()):
            stack.enter_context(end)
        descriptors = [end.fileno() for end in its.values()]
        process = stack.enter_context(subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.DEVNULL))
        stack.callback(process.kill)
        for end in its.values():
            end.close()
        for end in ours.values():
            end.settimeout(TIMEOUT)
        heard, _, _ = select.select([ours["donjon.sallyport"], ours["donjon.simulated-tee"]], [], [], TIMEOUT)
        assert heard
        assert heard[0].recv(1)  # process 1 greets, or asks the TEE before that
        monitor = ours["monitor"].makefile("rw", encoding="utf-8")
        for words in ("qmp_capabilities", "query-chardev"):
            monitor.write(json.dumps({"execute": words}) + "\n")
            monitor.flush()
        for line in monitor:
            found = json.loads(line)
            if found.get("return"):
                return {port["label"]: port["frontend-open"] for port in found["return"] if port["label"] in pairs}
    raise AssertionError("QEMU did not say")


def test_production_never_opens_the_port_of_a_simulated_tee(image: Callable[[str], Image]) -> None:
    for variant, opens in (("production", False), ("simulated", True)):
        found = opened(image(variant))
        assert found["donjon.simulated-tee"] is opens, variant
        assert found["donjon.sallyport"] or opens, variant


def test_the_running_interpreter_of_the_tests_is_not_the_images() -> None:
    """Else equal bytes would prove little: what is compiled inside must not depend on this one."""
    assert "/.build/" not in os.path.realpath(sys.executable)
