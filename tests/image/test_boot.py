"""The image, started: it has all that it imports, and its parts work. The machine is emulated, and takes seconds."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from donjon.image import Image, cpio, recipe
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
TRIES = ["modules", "engine", "tls", "certificate", "lockdown"]
MODULE = re.compile(r"usr/lib/(?:python3\.11/(?:lib-dynload/)?|donjon/)(.+?)(?:\.cpython-311-x86_64-linux-gnu|\.abi3)?\.(?:pyc|so)$")


def names(image: Image) -> list[str]:
    """All Python modules in an image."""
    found = []
    for segment in image.manifest["segments"]:
        for path in segment["content"]:
            match = MODULE.match(path)
            if match and not path.endswith("_libwasmtime.so"):
                found.append(match[1].replace("/", ".").removesuffix(".__init__"))
    return found


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
        images.qemu(), "-M", "q35,graphics=off,usb=off,vmport=off", "-accel", "tcg", "-cpu", "max,-cx16", "-smp", "1",
        "-m", "320M", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-kernel", image.vmlinux,
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


@pytest.mark.parametrize("variant", recipe.VARIANTS)
def test_every_module_in_the_image_can_be_imported_there(
    image: Callable[[str], Image], variant: str, tmp_path: Path
) -> None:
    wanted = names(image(variant))
    assert {"donjon.keep.nil", "donjon.guest.init", "ssl", "cryptography.x509"} <= set(wanted)
    assert ("donjon.sim.inside" in wanted) == (variant == "simulated")
    found = boot(image(variant), {"modules": wanted, "tries": []}, tmp_path)
    assert found["failed"] == {}
    assert found["python"] == "3.11.2"


def test_its_parts_work(image: Callable[[str], Image], tmp_path: Path) -> None:
    found = boot(image("production"), {"modules": [], "tries": TRIES}, tmp_path)
    assert set(found["modules"]) >= {"configfs", "tsm", "failover", "net_failover", "virtio_net"}
    assert found["engine"] == ["x"]
    assert found["tls"]["roots"] > 100
    assert found["tls"]["version"].startswith("OpenSSL 3.0.")
    assert found["certificate"] is True
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


def test_the_compressed_initramfs_is_unpacked_by_the_kernel_too(
    image: Callable[[str], Image], tmp_path: Path
) -> None:
    """Three compressed archives in a row, and the bzImage: what is measured is what runs."""
    made = image("debug")
    console = tmp_path / "console"
    command = [
        images.qemu(), "-M", "q35,graphics=off,usb=off,vmport=off", "-accel", "tcg", "-cpu", "max,-cx16", "-smp", "1",
        "-m", "320M", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-kernel", made.kernel,
        "-initrd", made.initrd, "-append", made.cmdline, "-serial", f"file:{console}",
    ]  # fmt: skip
    subprocess.run(command, stdin=subprocess.DEVNULL, timeout=TIMEOUT, check=True)
    said = console.read_text(errors="replace")
    assert "Run /init as init process" in said
    assert "donjon.sallyport" in said  # there is no such port: our own process 1 says so, and ends the machine
    assert "Kernel panic" not in said


def test_the_running_interpreter_of_the_tests_is_not_the_images() -> None:
    """Else equal bytes would prove little: what is compiled inside must not depend on this one."""
    assert "/.build/" not in os.path.realpath(sys.executable)
