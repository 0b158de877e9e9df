"""AMD's and Intel's services on the loopback, with the real ones' rules, for simulated hardware.

Paths, parameters, statuses, headers and types are those of VCEK-KDS and PCS API v4; the root CA's CRL, which Intel has
at another address, is where a cache (PCCS) has it. What a service has, tests put into `files`; how it misbehaves,
`mode` says.
"""

from __future__ import annotations

import ssl
import threading
import time
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from donjon.tee.intel import x509
from donjon.tee.intel.collateral import Collateral
from donjon.tee.intel.simulate import SimulatedIntel, SimulatedPlatform
from donjon.tee.snp.layout import Product
from donjon.tee.snp.simulate import Chip

SPLS = {"blSPL", "teeSPL", "snpSPL", "ucodeSPL", "fmcSPL"}


@dataclass
class Fake:
    """A service.

    Args:
        files: path with its query → type, headers, body.
        mode: "" as it should be; a status as text; garbage, huge, slow, redirect, closed.
        per_second: more questions than that in a second are answered with 429; 0 counts none.
        asked: the paths so far.
    """

    files: dict[str, tuple[str, dict[str, str], bytes]] = field(default_factory=dict)
    mode: str = ""
    per_second: int = 0
    asked: list[str] = field(default_factory=list)
    base: str = ""
    _times: list[float] = field(default_factory=list)

    @contextmanager
    def serving(self, context: ssl.SSLContext | None = None) -> Iterator[Fake]:
        """Listen on a port that the system chooses; with TLS where there is a context."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                fake.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self.base = f"http{'s' if context else ''}://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """One answer."""
        self.asked.append(request.path)
        kind, headers, body = "text/plain", {"Request-ID": "00" * 16}, b"no such thing\n"
        status = 404
        found = self.files.get(request.path)
        now = time.monotonic()
        self._times = [at for at in self._times if now - at < 1] + [now]
        if self.per_second and len(self._times) > self.per_second:
            status, headers = 429, {"Retry-After": "7"}
        elif self.mode.isdigit():
            status, headers = int(self.mode), {"Retry-After": "30"}
        elif self.mode == "closed":
            request.close_connection = True
            return
        elif self.mode == "redirect":
            status, headers = 302, {"Location": f"{self.base}/elsewhere"}
            self.files["/elsewhere"] = found or (kind, headers, body)
        elif not self._is_asked_well(request.path):
            status = 400
        elif found:
            status, (kind, headers, body) = 200, found
            body = b"garbage" if self.mode == "garbage" else body
        request.send_response(status)
        for name, value in {"Content-Type": kind, **headers}.items():
            request.send_header(name, value)
        size = 5_000_000 if self.mode == "huge" else len(body)
        request.send_header("Content-Length", str(size))
        request.end_headers()
        try:
            if self.mode == "slow":
                for number in range(len(body)):
                    request.wfile.write(body[number : number + 1])
                    time.sleep(0.05)
            else:
                request.wfile.write(bytes(size) if self.mode == "huge" else body)
        except OSError:
            pass

    @staticmethod
    def _is_asked_well(path: str) -> bool:
        """AMD refuses numbers of patch levels that it does not know, Intel an FMSPC that is none."""
        parts = urllib.parse.urlsplit(path)
        query = urllib.parse.parse_qs(parts.query, strict_parsing=bool(parts.query))
        if parts.path.startswith("/vcek/v1/") and query:
            return set(query) <= SPLS and all(len(value) == 1 and value[0].isdigit() for value in query.values())
        if parts.path.endswith("/tcb"):
            return len(bytes.fromhex(query["fmspc"][0])) == 6 and query["update"][0] in ("early", "standard")
        return True

    # What it has

    def has_chip(self, chip: Chip) -> None:
        """AMD: a VCEK."""
        product = chip.product
        query = "&".join(f"{name}={number:02d}" for name, number in _spls(chip))
        path = f"/vcek/v1/{product.name}/{chip.chip_id[: product.chip_id_size].hex()}?{query}"
        self.files[path] = ("application/pkix-cert", {}, chip.vek)

    def has_list(self, product: Product, crl: bytes) -> None:
        """AMD: a revocation list, at both its places."""
        for kind in ("vcek", "vlek"):
            self.files[f"/{kind}/v1/{product.name}/crl"] = ("application/pkix-crl", {}, crl)

    def has_collateral(
        self, intel: SimulatedIntel, platform: SimulatedPlatform, tee: str, collateral: Collateral
    ) -> None:
        """Intel: everything about a platform."""
        root, processor, above = collateral.crls
        assert collateral.tcb_info
        assert collateral.qe_identity
        self.files["/sgx/certification/v4/rootcacrl"] = ("application/pkix-crl", {}, root.hex().encode())
        for ca, crl, authority in (
            ("processor", processor, intel.processor_ca),
            ("platform", above, intel.platform_ca),
        ):
            headers = {"SGX-PCK-CRL-Issuer-Chain": _quoted(authority.chain)}
            self.files[f"/sgx/certification/v4/pckcrl?ca={ca}&encoding=der"] = ("application/pkix-crl", headers, crl)
        fmspc = platform.numbers.fmspc.hex().upper()
        for path, member, header, signed in (
            (f"/{tee}/certification/v4/tcb?fmspc={fmspc}&update=standard", "tcbInfo", "TCB-Info", collateral.tcb_info),
            (
                f"/{tee}/certification/v4/qe/identity?update=standard",
                "enclaveIdentity",
                "SGX-Enclave-Identity",
                collateral.qe_identity,
            ),
        ):
            body = b'{"%s":%s,"signature":"%s"}' % (member.encode(), signed.body, signed.signature.hex().encode())
            self.files[path] = ("application/json", {f"{header}-Issuer-Chain": _quoted(signed.chain)}, body)


def _spls(chip: Chip) -> list[tuple[str, int]]:
    words = {"fmc": "fmcSPL", "bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}
    return [(words[part], number) for part, number in chip.tcb.parts().items()]


def _quoted(chain: tuple[bytes, ...]) -> str:
    return urllib.parse.quote(x509.pem(chain))
