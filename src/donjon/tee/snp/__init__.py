"""AMD SEV-SNP: reports of version 2 to 5, of Milan, Genoa and Turin, signed by a VCEK or a VLEK.

`layout` reads the report, `evidence` what arrives around it, `vek` and `x509` the certificates; `collateral` knows what
else there is. `verify` says whether a report is genuine, `policy` whether it is acceptable. `simulate` makes the same
things without hardware.
"""

from donjon.tee.snp.collateral import Collateral, join, needs, read_collateral, read_roots
from donjon.tee.snp.evidence import (
    MAX_EVIDENCE,
    Evidence,
    assemble,
    claimed,
    encode,
    is_evidence,
    key_binding,
    parse,
    wrap,
)
from donjon.tee.snp.policy import Policy, judge
from donjon.tee.snp.roots import vendor as vendor_roots
from donjon.tee.snp.verify import Genuine, verify

__all__ = [
    "MAX_EVIDENCE",
    "NAME",
    "OID",
    "TITLE",
    "Collateral",
    "Evidence",
    "Genuine",
    "Policy",
    "assemble",
    "claimed",
    "encode",
    "is_evidence",
    "join",
    "judge",
    "key_binding",
    "needs",
    "parse",
    "read_collateral",
    "read_roots",
    "vendor_roots",
    "verify",
    "wrap",
]

NAME = "snp"
TITLE = "AMD SEV-SNP"
OID = "1.3.6.1.4.1.58270.1.3"
