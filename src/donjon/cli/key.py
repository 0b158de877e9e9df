"""`donjon key` and `donjon sign`: keys that sign images, and their signatures."""

from __future__ import annotations

from donjon import __version__, files, signing
from donjon.cli import tui
from donjon.errors import UsageError
from donjon.tee import signatures
from donjon.tee.sgx import sigstruct
from donjon.tee.snp import idblock
from donjon.tee.snp.layout import GuestPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.cli.parse import Options

__all__ = ["sev_create", "sev_digest", "sev_sign", "sgx_create", "sgx_digest", "sign"]


def sev_create(options: Options) -> int:
    """Make a key for ID blocks."""
    return _keep(signing.new_sev_key(), options.out)


def sgx_create(options: Options) -> int:
    """Make a key for enclaves."""
    return _keep(signing.new_sgx_key(), options.out)


def sev_digest(options: Options) -> int:
    """Print ID_KEY_DIGEST or AUTHOR_KEY_DIGEST of reports, without a line's end, as Enarx does."""
    return _give(idblock.key_digest(signing.read_sev_key(options.key).public_key()).hex(), options.out)


def sgx_digest(options: Options) -> int:
    """Print MRSIGNER of enclaves, without a line's end, as Enarx does."""
    return _give(sigstruct.key_digest(signing.read_sgx_key(options.key).public_key()).hex(), options.out)


def sev_sign(options: Options) -> int:
    """Write the author's word for an ID key."""
    author, id_key = signing.read_sev_key(options.author_key), signing.read_sev_key(options.id_key)
    signing.write_public(options.out, idblock.authorize(author, id_key.public_key()))
    return 0


def sign(options: Options) -> int:
    """Write signatures for a launch digest, for an enclave, or both.

    Raises:
        UsageError: parts that belong together are not all there.
    """
    sev, sgx = None, None
    if _together(options, "--sev-id-key", "--sev-id-key-signature"):
        key = signing.read_sev_key(options.sev_id_key)
        authorization = files.read(options.sev_id_key_signature, signing.MAX_FILE)
        debug = options.variant == "debug"
        policy = idblock.POLICY | GuestPolicy.DEBUG if debug else idblock.POLICY
        sev = idblock.sign(_launch_digest(options), key, authorization, policy=policy)
    elif options.launch_digest is not None:
        raise UsageError("expected --sev-id-key and --sev-id-key-signature with --launch-digest")
    if _together(options, "--mrenclave", "--sgx-key"):
        body = sigstruct.body(_hex("--mrenclave", options.mrenclave, 32))
        sgx = sigstruct.sign(body, signing.read_sgx_key(options.sgx_key))
    if sev is None and sgx is None:
        raise UsageError("nothing to sign: expected --sev-id-key or --mrenclave", "donjon sign --help")
    return _give(signatures.write(__version__, sev, sgx).decode(), options.out)


def _launch_digest(options: Options) -> bytes:
    """The one that is named, or that of the image which was built."""
    if options.launch_digest is not None:
        return _hex("--launch-digest", options.launch_digest, 48)
    from donjon.cli import measure  # which needs an image and sev-snp-measure: not everybody who signs has them
    from donjon.tee.snp.backend import firmware
    from donjon.tee.snp.measure import launch_digest

    subject = measure.of_variant(options.variant)
    count = measure.count("--vcpus", options.vcpus)
    return launch_digest(
        firmware(options.firmware)[1], subject.kernel, subject.initrd, subject.cmdline, count, options.cpu
    )


def _together(options: Options, *names: str) -> bool:
    """Whether these options are given; some of them alone are a mistake."""
    given = [name for name in names if getattr(options, name[2:].replace("-", "_"))]
    if given and len(given) < len(names):
        raise UsageError(f"expected {', '.join(names[:-1])} and {names[-1]} together, got {', '.join(given)} alone")
    return bool(given)


def _keep(pem: bytes, out: str | None) -> int:
    if out is None:
        tui.write(pem.decode())
    else:
        signing.write_private(out, pem)
    return 0


def _give(text: str, out: str | None) -> int:
    if out is None:
        tui.write(text)
    else:
        signing.write_public(out, text.encode())
    return 0


def _hex(name: str, text: str, size: int) -> bytes:
    try:
        found = bytes.fromhex(text)
    except ValueError as error:
        raise UsageError(f"{name}: expected {2 * size} hex digits, got other text") from error
    if len(found) != size:
        raise UsageError(f"{name}: expected {2 * size} hex digits, got {2 * len(found)}")
    return found
