"""AMD's roots, as shipped: for each product the ARK (root), the ASK (signs VCEKs) and the ASVK (signs VLEKs).

Origin: AMD's Key Distribution Service, https://kdsintf.amd.com/{vcek,vlek}/v1/{Milan,Genoa,Turin}/cert_chain. The first
ASK of Genoa (serial number 0x20001) is not among them: AMD revoked it on 2022-10-31.

Why the ASKs and ASVKs are pinned too: nobody has to send them, and an old one that was revoked since cannot come back.
The price is a release of ours when AMD makes a new one.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha256

from donjon.errors import BugError
from donjon.tee.contract import Roots

PINNED = {
    "Milan/ARK": "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
    "Genoa/ARK": "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
    "Turin/ARK": "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
    "Milan/ASK": "67d303bd3905fd38db8b20e0793699870e7fa612eaad5dec358293fd8c0bac1b",
    "Genoa/ASK": "5464738c1546aed5f2cecf1dc98c5c960a92e8913238a61711bc90ec6e828521",
    "Turin/ASK": "5b77ef5fe7a7a004fd9032668fba9d0fda22f88c4442069a479636a6ae3b3185",
    "Milan/ASVK": "c5e081f59b7efab1fe2f8b505e159704e72f29cab7ef7cf628a05a42439082f5",
    "Genoa/ASVK": "197e610743a917d6b9bb982a5a9226ccc0a15b611be0619e626aca9151457372",
    "Turin/ASVK": "104e10a8bd060a3c20a434261a57d0588fd65a88915b4f65b08bdecaf8df1a3c",
}
"""Name → SHA-256 of the certificate; its file is called kind_product.der."""


@cache
def vendor() -> Roots:
    """AMD's certificates by name: "Milan/ARK" and so on.

    Raises:
        BugError: a file is not the one that is pinned.
    """
    anchors: dict[str, bytes] = {}
    for name, pinned in PINNED.items():
        product, kind = name.lower().split("/")
        with open(f"{__path__[0]}/{kind}_{product}.der", "rb") as file:
            data = file.read()
        if sha256(data).hexdigest() != pinned:
            raise BugError(f"{kind}_{product}.der: expected SHA-256 {pinned}, got {sha256(data).hexdigest()}")
        anchors[name] = data
    return Roots(anchors)
