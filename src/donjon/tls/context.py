"""How every TLS connection of a Keep is configured.

TLS 1.3 and nothing else, so that there is no renegotiation, no compression, and no suite without forward secrecy; early
data stays off, which is OpenSSL's default. Secrets are not logged: only `ssl.create_default_context` would obey
SSLKEYLOGFILE, and it is not used here.

Suites and groups are OpenSSL's defaults, since Python can choose those of TLS 1.3 from 3.15 on only. The defaults
contain all that Enarx has (AES-256-GCM, AES-128-GCM, ChaCha20-Poly1305; X25519, P-256, P-384), and from OpenSSL 3.5 on
X25519MLKEM768, the hybrid that keeps today's recordings closed to tomorrow's quantum computers. The tests negotiate
each of them. A machine's openssl.cnf can take some away.
"""

from __future__ import annotations

import errno
import os
import ssl
import sys

from donjon.errors import ParseError, PlatformError, UsageError, VerifyError, words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from donjon.identity import Identity

# Where systems keep their roots, for a Python whose OpenSSL was built to look in another place (a portable build).
SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # macOS, BSD, Alpine
)


def server_context(identity: Identity, roots: Sequence[bytes] = ()) -> ssl.SSLContext:
    """Make the configuration of the end that is connected to; one serves all listeners that trust the same.

    No session tickets are given out: each connection proves both ends' identities afresh, nothing lets an observer link
    connections, and a client gets no bytes it did not ask for.

    Args:
        roots: certificates in DER. A client must show one that leads to one of them. Without any, no client certificate
            is asked for, as with Enarx.
    Raises:
        VerifyError: the certificate in `identity` does not belong to its key.
        ParseError: one of `roots` is none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _only_tls13(context)
    context.num_tickets = 0
    if roots:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust_these(context, roots)
    show(context, identity)
    return context


def client_context(
    identity: Identity | None, roots: str | Sequence[bytes] | None = None, check_name: bool = True
) -> ssl.SSLContext:
    """Make the configuration of the end that connects: the peer's chain, and its host name or IP address, are verified.

    Args:
        identity: what to show to a peer that asks for a certificate; None to show nothing.
        roots: a PEM file with the certificates to trust, or these in DER, instead of the system's. Without it OpenSSL's
            rules hold: SSL_CERT_FILE and SSL_CERT_DIR replace its built-in places.
        check_name: False where somebody else finds out who the peer is, by what its certificate holds.
    Raises:
        UsageError: `roots`, or what SSL_CERT_FILE or SSL_CERT_DIR names, cannot be read or holds no certificate.
        PlatformError: this machine has no roots where OpenSSL or we look.
        VerifyError: the certificate in `identity` does not belong to its key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # requires a certificate and checks the name
    _only_tls13(context)
    context.check_hostname = check_name
    if roots is None:
        _trust_system(context)
    elif isinstance(roots, str):
        _trust(context, roots, roots)
    else:
        _trust_these(context, roots)
    if identity is not None:
        show(context, identity)
    return context


def _only_tls13(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION  # of 1.2; said for whoever reads the options
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # which Python sets: a cut is no clean end


def _trust_these(context: ssl.SSLContext, roots: Sequence[bytes]) -> None:
    """Nothing but these: each may end a chain, whether it has signed itself or not."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    known = 0
    for number, root in enumerate(roots, 1):
        try:
            context.load_verify_locations(cadata=root)
        except (ssl.SSLError, ValueError) as error:
            raise ParseError(f"certificate {number} to be trusted: expected one that OpenSSL can read") from error
        before, known = known, context.cert_store_stats()["x509"]
        if known > before + 1:  # OpenSSL takes all that it finds, one behind the other; tools that show files do not
            text = f"certificate {number} to be trusted: expected one certificate, got {known - before}"
            raise ParseError(text, "put each into a block of its own")


def _trust_system(context: ssl.SSLContext) -> None:
    # OpenSSL skips what it cannot read; someone who set a variable wants to hear of it.
    file, directory = os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")
    if directory and not any(os.path.isdir(part) for part in directory.split(os.pathsep)):
        raise UsageError(f"SSL_CERT_DIR: expected a directory, got {directory!r}", "correct it, or unset it")
    if file:
        _trust(context, file, f"SSL_CERT_FILE: {file}")
    elif not directory:
        usual = ssl.get_default_verify_paths()
        if not usual.cafile and not (usual.capath and os.listdir(usual.capath)):
            found = next(filter(os.path.exists, SYSTEM_ROOTS), None)
            if found is None:
                raise PlatformError(
                    "this machine has no root certificates to verify TLS peers with",
                    "install ca-certificates, or name a file with trusted certificates (PEM) in SSL_CERT_FILE",
                )
            _trust(context, found, found)
            return
    context.set_default_verify_paths()


def _trust(context: ssl.SSLContext, path: str, name: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise UsageError(f"{name}: expected certificates in PEM, found none that can be read") from error
    except OSError as error:
        raise UsageError(f"{name}: cannot read it: {words_of(error)}") from error


def show(context: ssl.SSLContext, identity: Identity) -> None:
    """Load key and chain, also in place of others: connections that are there keep theirs, later ones get these.

    OpenSSL's function wants paths: it gets those of descriptors, and no file is ever made.

    Raises:
        VerifyError: they do not belong together.
    """
    chain, key = _in_memory(identity.chain_pem()), -1
    try:
        key = _in_memory(identity.key_pem())
        context.load_cert_chain(_path(chain), _path(key))
    except OSError as error:
        # Python looks at errno before it looks at OpenSSL's error, and OpenSSL has tried to seek in a pipe.
        if isinstance(error, ssl.SSLError) or error.errno == errno.ESPIPE:
            raise VerifyError("the Keep's certificate and key are damaged, or do not belong together") from error
        raise PlatformError(f"cannot hand the Keep's key to OpenSSL through {_path(key)}: {words_of(error)}") from error
    finally:
        os.close(chain)
        if key >= 0:
            os.close(key)


def _in_memory(data: bytes) -> int:
    """Open a descriptor from which `data` can be read once: anonymous memory, or a pipe where there is none (macOS)."""
    if hasattr(os, "memfd_create"):
        memory = os.memfd_create("donjon")
        with open(memory, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(memory, 0, os.SEEK_SET)
        return memory
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)  # nobody reads yet: what does not fit into the pipe would wait for ever
        written = os.write(writer, data)
    except BlockingIOError:
        written = 0
    finally:
        os.close(writer)
    if written != len(data):
        os.close(reader)
        raise PlatformError(f"the certificate chain is too long for a pipe: {len(data)} bytes, {written} fit")
    return reader


def _path(descriptor: int) -> str:
    # /dev/fd is a link that a minimal Linux lacks; /proc/self/fd is what it points to.
    return f"/proc/self/fd/{descriptor}" if sys.platform == "linux" else f"/dev/fd/{descriptor}"
