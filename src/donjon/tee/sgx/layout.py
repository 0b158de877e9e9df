"""An SGX quote, version 3: header, report of the enclave, and what signs them (`donjon.tee.intel.layout`).

    QuoteHeader 48 | EnclaveReport 384 | u32 length | signature data

The signature covers the first two. Source: Intel SGX ECDSA Quote Library Reference, appendix A.4 [SGX-QUOTE3].
"""

from __future__ import annotations

from donjon.tee.intel.layout import ECDSA_P256, INTEL_QE, Attributes, EnclaveReport, MiscSelect
from donjon.wire import layout, raw, u16, u32

__all__ = ["Attributes", "EnclaveReport", "MiscSelect", "QuoteHeader"]


# fmt: off
@layout(size=0x30, spec="SGX-QUOTE3, A.4 Quote Header")
class QuoteHeader:
    """What kind of quote it is, and who made it."""

    version:      int   = u16(0x00, only=(3,))
    key_type:     int   = u16(0x02, only=(ECDSA_P256,))
    tee_type:     int   = u32(0x04, only=(0,))             # reserved when version 3 was written: 0 is SGX
    qe_svn:       int   = u16(0x08)
    pce_svn:      int   = u16(0x0A)
    qe_vendor_id: bytes = raw(0x0C, 16, only=(INTEL_QE,))
    user_data:    bytes = raw(0x1C, 20)                    # the first 16 bytes name the QE
# fmt: on
