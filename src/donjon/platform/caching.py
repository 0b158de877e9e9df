"""Collateral of this machine, fetched from its vendor, verified, and kept where Enarx keeps it.

    /var/cache/amd-sev/crls.der             AMD's revocation lists, of every product that has a root
    /var/cache/amd-sev/vcek-<chip>-...      the certificate of this chip at its TCB
    /var/cache/intel-sgx/crls.der           the lists of Intel's root and of the two CAs that issue PCK certificates
    /var/cache/intel-sgx/tcb.der            TCB info of this kind of machine; tcb-tdx.der is that for TDX
    /var/cache/intel-sgx/fmspc.txt          which kind that is

Where files are and what is in them is Enarx's, so both can use them: lists are its CrlList, TCB info its SignedJson,
both in DER as they stand in its evidence. What and where to ask, how an answer is read and whose signature it must
have, the folders of the TEEs say (`fetch.py`), as they do to the Steward.

Nothing is kept that is not verified by the vendor's root. A file appears whole, and one process at a time writes: the
lock is on a file beside them, and ends with its process, whatever becomes of that.

Source: Enarx, src/caching.rs, src/cli/platform; see `donjon.tee.intel.evidence` for the forms.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from donjon import files, tee
from donjon.errors import ParseError, PlatformError, UsageError, VerifyError, words_of
from donjon.log import printable
from donjon.platform.backends import family_model, product_of, vcek_name
from donjon.platform.machine import Machine
from donjon.steward.fetching import VendorError, Vendors
from donjon.steward.policy import Collateral
from donjon.tee.contract import Fetch, Piece, Roots
from donjon.tee.snp.layout import Product
from donjon.wire.der import OCTET_STRING, SEQUENCE, UTF8_STRING, Der, encode

__all__ = ["Cache", "ends", "folders"]

FOLDERS = {"amd": "/var/cache/amd-sev", "intel": "/var/cache/intel-sgx"}
EFI = "/sys/firmware/efi/efivars"
REGISTRATION = "SgxRegistrationServerRequest-304e0796-"
EFI_HEAD = 8
"""Bytes before the manifest, as Enarx leaves out: Linux' attributes of the variable, and the head of Intel's."""
SECONDS = 30.0
HINT = "see whether this machine reaches it, or name a copy of it with --from"
MAX_LISTS = 16
MAX_FILE = 4 * 1024 * 1024
LOCK = ".lock"
WAIT = 20.0
"""Seconds for another process that writes; Enarx waits as long."""


def folders(given: str | None = None) -> dict[str, str]:
    """Where things are kept: as given, as DONJON_AMD_CACHE and DONJON_INTEL_CACHE say, or where Enarx has them."""
    return {
        vendor: given or os.environ.get(f"DONJON_{vendor.upper()}_CACHE") or folder
        for vendor, folder in FOLDERS.items()
    }


def ends(data: bytes) -> datetime | None:
    """When the first of the lists in a crls.der ends; None where one does not say, or there is none.

    Raises:
        ParseError: it is no such file.
    """
    found = [_list_end(der) for der in read_lists(data)]
    known = [end for end in found if end is not None]
    return min(known) if known and len(known) == len(found) else None


def read_lists(data: bytes) -> tuple[bytes, ...]:
    """The lists in a crls.der, each in DER.

    Raises:
        ParseError: it is longer than 4 MiB, no CrlList, or has more than 16.
    """
    if len(data) > MAX_FILE:
        raise ParseError(f"crls: expected at most {MAX_FILE} bytes, got {len(data)}")
    outer = Der(data, "crls")
    body = outer.sequence()
    outer.end()
    lists = body.sequence("lists")
    body.end()
    found: list[bytes] = []
    while lists.left:
        if len(found) == MAX_LISTS:
            raise ParseError(f"crls: expected at most {MAX_LISTS} lists, got more")
        entry = lists.sequence("list")
        entry.whole(UTF8_STRING, "url")
        found.append(entry.whole(SEQUENCE, "crl"))
        entry.end()
    return tuple(found)


def _list_end(der: bytes) -> datetime | None:
    """The end of one list, of AMD or of Intel."""
    from donjon.tee.intel import x509 as intel
    from donjon.tee.snp.x509 import read_crl
    from donjon.wire.pki import shape

    if shape(der)[1] == "1.2.840.113549.1.1.10":  # AMD's RSASSA-PSS
        return read_crl(der).next_update
    return intel.crl(der).next_update


@dataclass
class Cache:
    """What commands do with the caches.

    Args:
        folder: where, instead of the usual places.
        addresses: vendor -> where to ask instead of the vendor.
        trust: TEE -> roots, instead of the vendors' own; tests have others.
        say: told what was written.
    """

    machine: Machine
    say: Callable[[str], None]
    folder: str | None = None
    addresses: Mapping[str, str] | None = None
    trust: Mapping[str, Roots] | None = None

    def amd_lists(self) -> None:
        """The revocation lists of all products."""
        names = [f"crl-vcek-{product.name.lower()}" for product in Product]
        self._keep_lists("snp", "amd", names)

    def intel_lists(self) -> None:
        """The revocation lists of root and issuing CAs."""
        self._keep_lists("sgx", "intel", ["rootcacrl", "pckcrl-processor", "pckcrl-platform"])

    def vcek(self) -> None:
        """The certificate of this chip, at the TCB that its firmware reports.

        Raises:
            PlatformError: the firmware cannot be asked, the product is unknown, or AMD gives none.
        """
        name, need = self._vcek()
        self._write("amd", name, self._fetch("snp", [need])[need].collateral.veks[0])

    def vcek_file(self) -> str:
        """Where the certificate of this chip at its TCB is kept.

        Raises:
            PlatformError: it is not there, or the chip cannot be asked.
        """
        name, _ = self._vcek()
        path = os.path.join(self._folder("amd"), name)
        if not os.path.isfile(path):
            raise PlatformError(f"{path}: no such file or directory", "`donjon platform snp update` fetches it")
        return path

    def intel_tcb(self, kinds: Sequence[str] = ("sgx", "tdx")) -> None:
        """TCB info of this kind of machine, which fmspc.txt names.

        Raises:
            PlatformError: there is no such file. ParseError: it holds something else. VendorError: as Intel says.
        """
        from donjon.steward.fetching import MissingError

        fmspc = self._fmspc()
        found = 0
        for kind in kinds:
            try:
                info = self._fetch(kind, [name := f"tcb-{kind}-{fmspc}"])[name].collateral.tcb_info
            except MissingError as error:
                self.say(f"{kind}: {error.message}: not every machine has both")
                continue
            body = b'{"tcbInfo":%s,"signature":"%s"}' % (info.body, info.signature.hex().encode())
            data = encode(SEQUENCE, encode(SEQUENCE, *info.chain), encode(OCTET_STRING, body))
            self._write("intel", "tcb.der" if kind == "sgx" else f"tcb-{kind}.der", data)
            found += 1
        if not found:
            raise PlatformError(f"Intel has no TCB info of FMSPC {fmspc}", "check fmspc.txt")

    def pck(self) -> None:
        """The PCK certificate of this machine, of which the FMSPC is kept: it says which TCB info the machine needs.

        Intel's PCKIDRetrievalTool writes what has to be asked into pckid_retrieval.csv.

        Raises:
            PlatformError: there is no such file, or Intel gives none. ParseError: it holds something else.
            VerifyError: the certificate is not of Intel's root.
        """
        from donjon.tee.intel import fetch, pck, x509
        from donjon.tee.intel.verify import ROOT

        folder = self._folder("intel")
        path = os.path.join(folder, "pckid_retrieval.csv")
        text = self.machine.text(path)
        if text is None:
            hint = f"run Intel's PCKIDRetrievalTool -f {path}"
            raise PlatformError(f"cannot read {path}", hint)
        fields = [field.strip() for field in text.splitlines()[0].split(",")] if text else []
        sizes = (768, 4, 32, 4)  # hex digits of the encrypted PPID, PCE_ID, CPUSVN, PCE's ISVSVN
        fits = len(fields) >= 4 and all(
            re.fullmatch(f"[0-9a-fA-F]{{{size}}}", field) for size, field in zip(sizes, fields, strict=False)
        )
        if not fits:
            raise ParseError(f"{path}: expected the encrypted PPID, PCE_ID, CPUSVN and PCE ISVSVN, in hex with commas")
        ppid, pce, cpu, svn = fields[:4]
        query = f"encrypted_ppid={ppid}&cpusvn={cpu}&pcesvn={svn}&pceid={pce}"
        base = (self.addresses or {}).get(fetch.VENDOR, fetch.BASE)
        body, headers = self._ask(fetch.VENDOR, f"{base}/sgx/certification/v4/pckcert?{query}")
        chain = urllib.parse.unquote_to_bytes(headers.get("sgx-pck-certificate-issuer-chain", "")[: fetch.MAX_CHAIN])
        root = ((self.trust or {}).get("sgx") or tee.load("sgx").vendor_roots()).anchors[ROOT]
        (leaf,), above = x509.certificates(body, "PCK certificate"), x509.certificates(chain, "its issuer's chain")
        facts, issuer = x509.chain((leaf, *above)), x509.common_name(x509.certificate(leaf).issuer)
        if facts.problem or above[-1] != root or issuer not in pck.CA_NAMES:
            raise VerifyError(f"PCK certificate: expected a chain to Intel's root, got {facts.problem or 'another'}")
        self._write("intel", "fmspc.txt", pck.platform(leaf).fmspc.hex().encode())

    def register(self) -> None:
        """Send Intel the platform manifest that the BIOS has left, once in a machine's life.

        Raises:
            PlatformError: there is none, or Intel does not take it.
        """
        import httpx

        from donjon.tee.intel import fetch

        name = next((one for one in self.machine.names(EFI) if one.startswith(REGISTRATION)), None)
        data = None if name is None else self.machine.data(f"{EFI}/{name}")
        if data is None or len(data) <= EFI_HEAD:
            raise PlatformError(
                f"{EFI}: there is no {REGISTRATION}... that can be read",
                "run it as root; the BIOS leaves it after a reset of SGX (SGX Factory Reset), until it is registered",
            )
        base = (self.addresses or {}).get(fetch.VENDOR, fetch.BASE)
        try:
            with (
                httpx.stream(  # whatever the answer says is not read
                    "POST",
                    f"{base}/sgx/registration/v1/platform",
                    content=data[EFI_HEAD:],
                    headers={"Content-Type": "application/octet-stream"},
                    timeout=SECONDS,
                ) as reply
            ):
                pass
        except httpx.HTTPError as error:
            raise PlatformError(f"{fetch.VENDOR}: no answer: {printable(str(error)[:120])}", HINT) from error
        if reply.status_code != 201:
            words = printable(reply.headers.get("error-message", "")[:120])
            raise PlatformError(f"{fetch.VENDOR}: expected 201, got {reply.status_code}{f': {words}' if words else ''}")
        self.say("registered")

    def _ask(self, vendor: str, address: str) -> tuple[bytes, Mapping[str, str]]:
        async def ask() -> tuple[bytes, Mapping[str, str]]:
            vendors = Vendors(Collateral())
            try:
                return await vendors.get(vendor, address)
            except VendorError as error:
                error.hint = error.hint or HINT
                raise
            finally:
                await vendors.close()

        return asyncio.run(ask())

    def _fmspc(self) -> str:
        path = os.path.join(self._folder("intel"), "fmspc.txt")
        text = self.machine.text(path)
        if text is None:
            raise PlatformError(
                f"cannot read {path}",
                "`donjon platform sgx cache-pck` writes it; by hand it is 12 hex digits, which a PCK certificate has",
            )
        if len(text) != 12 or not all(letter in "0123456789abcdefABCDEF" for letter in text):
            raise ParseError(f"{path}: expected 12 hex digits, got {text[:20]!a}")
        return text.lower()

    def _vcek(self) -> tuple[str, str]:
        status, chip, product = self.machine.sev_status(), self.machine.chip_id(), product_of(self.machine)
        if isinstance(status, str) or isinstance(chip, str):
            problem = status if isinstance(status, str) else str(chip)
            raise PlatformError(problem, "run it as root; `donjon doctor --backend snp` says what is missing")
        if product is None:
            found = self.machine.cpuid(1)
            about = "no x86-64" if found is None else str(family_model(found[0]))
            raise PlatformError(f"AMD has no certificates of this processor: {about}", "a later donjon may know it")
        tcb = status.reported_tcb
        need = f"vcek-{product.name.lower()}-{chip[: product.chip_id_size].hex()}-{tcb.hex()}"
        return vcek_name(product, chip, tcb), need

    def _keep_lists(self, kind: str, vendor: str, names: Sequence[str]) -> None:
        fetch = _fetch_of(kind)
        entries = []
        for name, piece in self._fetch(kind, names).items():
            address = fetch.address(fetch.need(name), self._address(fetch))
            entries.append(encode(SEQUENCE, encode(UTF8_STRING, address.encode()), *piece.collateral.crls))
        self._write(vendor, "crls.der", encode(SEQUENCE, encode(SEQUENCE, *entries)))

    def _address(self, fetch: Fetch) -> str:
        return (self.addresses or {}).get(fetch.VENDOR, fetch.BASE)

    def _fetch(self, kind: str, names: Sequence[str]) -> dict[str, Piece]:
        """Ask for these, and verify each; all or nothing."""
        fetch = _fetch_of(kind)
        roots = (self.trust or {}).get(kind) or tee.load(kind).vendor_roots()

        async def ask() -> dict[str, Piece]:
            vendors = Vendors(Collateral())
            found: dict[str, Piece] = {}
            try:
                for name in names:
                    need = fetch.need(name)
                    body, headers = await vendors.get(
                        fetch.VENDOR, fetch.address(need, self._address(fetch)), need.lasting
                    )
                    kept = fetch.keep(need, body, headers)
                    piece = fetch.piece(need, kept, roots)
                    if piece.ends <= self.machine.now():
                        raise PlatformError(
                            f"{name}: expected one that has not ended, got one until {piece.ends:%Y-%m-%d}",
                            "check this machine's clock",
                        )
                    found[name] = piece
            except VendorError as error:
                error.hint = error.hint or HINT
                raise
            finally:
                await vendors.close()
            return found

        return asyncio.run(ask())

    def _folder(self, vendor: str) -> str:
        return self.folder or self.machine.caches()[vendor]

    def _write(self, vendor: str, name: str, data: bytes) -> None:
        folder = self._folder(vendor)
        path = os.path.join(folder, name)
        try:
            _make(folder)
            with _locked(folder), files.replacing(path, sync=True) as file:
                os.fchmod(file.fileno(), 0o644)  # everybody may read it, whatever the umask is: all of it is public
                file.write(data)
        except OSError as error:
            hint = "run it as root, or name a directory of your own with --cache"
            raise PlatformError(f"cannot write {path}: {words_of(error)}", hint) from error
        self.say(path)


def vendor_of(machine: Machine) -> str:
    """Whose processor it is: "amd" or "intel".

    Raises:
        PlatformError: another's.
    """
    import struct

    found = machine.cpuid(0)
    name = "none" if found is None else struct.pack("<3I", found[1], found[3], found[2]).decode("ascii", "replace")
    known = {"AuthenticAMD": "amd", "GenuineIntel": "intel"}
    if name not in known:
        raise PlatformError(
            f"processor: expected one of AMD or Intel, got {name!a}", "there is nothing to fetch for it"
        )
    return known[name]


def _fetch_of(kind: str) -> Fetch:
    found = tee.load_fetch(kind)
    if found is None:
        raise UsageError(f"{kind}: nobody publishes anything about it")
    return found


def _make(folder: str) -> None:
    """Make the directory, which everybody may read, whatever the umask is; one that is there stays as it is."""
    if not os.path.isdir(folder):
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)  # noqa: S103 - all of it is public


@contextlib.contextmanager
def _locked(folder: str) -> Iterator[None]:
    """Hold the folder's lock, for which others wait a while.

    Raises:
        OSError: it cannot be made; somebody holds it all the time.
    """
    import time

    file = os.open(os.path.join(folder, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        end = time.monotonic() + WAIT
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        yield
    finally:
        os.close(file)
