"""TDX quotes, versions 4 and 5: header, TD report, and what signs them (`donjon.tee.intel.layout`).

    version 4    QuoteHeader 48 | TdReport10 584 | u32 length | signature data
    version 5    QuoteHeader 48 | BodyDescriptor 6 | TdReport10 584 [| TdReport15 64] | u32 length | signature data

The signature covers everything before the length. Source: Intel TDX DCAP Quoting Library API, appendix A.3 and A.4
[TDX-QUOTE]; Intel TDX Module ABI, TDREPORT [TDX-ABI].
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from donjon.tee.intel.layout import ECDSA_P256, INTEL_QE
from donjon.wire import layout, raw, u16, u32, u64

TDX = 0x81
"""TEE type."""


class BodyType(IntEnum):
    """What a quote of version 5 is about, as far as it is read here.

    1 is an enclave, whose quotes have version 3 in use; 4 is a longer TD report that no public specification of the
    quote describes fully yet.
    """

    TD_REPORT_10 = 2
    TD_REPORT_15 = 3


class TdAttributes(IntFlag):
    """ATTRIBUTES of a TD: bits 0 to 7 make it untrusted, 8 to 31 concern its security, the rest do not.

    Source: TDX-ABI, table "ATTRIBUTES Fields".
    """

    DEBUG = 1 << 0
    LASS = 1 << 27
    SEPT_VE_DISABLE = 1 << 28
    MIGRATABLE = 1 << 29
    PKS = 1 << 30
    KL = 1 << 31
    TPA = 1 << 62
    PERFMON = 1 << 63


# fmt: off
@layout(size=0x30, spec="TDX-QUOTE, A.3.1 Quote Header")
class QuoteHeader:
    """What kind of quote it is, and who made it."""

    version:      int   = u16(0x00, only=(4, 5))
    key_type:     int   = u16(0x02, only=(ECDSA_P256,))
    tee_type:     int   = u32(0x04, only=(TDX,))
    reserved_08:  bytes = raw(0x08, 2)                     # QE and PCE SVN in version 3; some still fill them
    reserved_0a:  bytes = raw(0x0A, 2)
    qe_vendor_id: bytes = raw(0x0C, 16, only=(INTEL_QE,))
    user_data:    bytes = raw(0x1C, 20)


@layout(size=0x6, spec="TDX-QUOTE, A.4.2 Quote Body Descriptor")
class BodyDescriptor:
    """Of version 5: which report follows, and how long it is."""

    body_type: BodyType = u16(0x0, BodyType)
    size:      int      = u32(0x2)


@layout(size=0x248, spec="TDX-QUOTE, A.3.2 TD Quote Body; TDX-ABI, TEE_TCB_INFO and TDINFO")
class TdReport10:
    """What module and processor say of a TD. Unknown attributes stay in the value; who judges refuses them."""

    tee_tcb_svn:      bytes        = raw(0x000, 16)        # [0] the module's ISVSVN, [1] its version, [2] microcode
    mr_seam:          bytes        = raw(0x010, 48)
    mr_signer_seam:   bytes        = raw(0x040, 48)        # zero: signed by Intel
    seam_attributes:  bytes        = raw(0x070, 8)
    td_attributes:    TdAttributes = u64(0x078, TdAttributes, unknown="kept")
    xfam:             int          = u64(0x080)            # as in XCR0 and IA32_XSS
    mr_td:            bytes        = raw(0x088, 48)
    mr_config_id:     bytes        = raw(0x0B8, 48)
    mr_owner:         bytes        = raw(0x0E8, 48)
    mr_owner_config:  bytes        = raw(0x118, 48)
    rtmr0:            bytes        = raw(0x148, 48)
    rtmr1:            bytes        = raw(0x178, 48)
    rtmr2:            bytes        = raw(0x1A8, 48)
    rtmr3:            bytes        = raw(0x1D8, 48)
    report_data:      bytes        = raw(0x208, 64)


@layout(start=0x248, size=0x40, spec="TDX-QUOTE, A.4.3 TD Quote Body 1.5, last rows")
class TdReport15:
    """What a TD report 1.5 has beyond 1.0."""

    tee_tcb_svn_2: bytes = raw(0x248, 16)                  # of the module that is loaded now
    mr_service_td: bytes = raw(0x258, 48)                  # zero: no service TD, e.g. for migration, is bound
# fmt: on
