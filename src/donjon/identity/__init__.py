"""Who a Keep is: its private key, and the certificates that vouch for it."""

from donjon.identity.apart import Apart, Beside
from donjon.identity.certificate import self_signed
from donjon.identity.chain import Identity

__all__ = ["Apart", "Beside", "Identity", "self_signed"]
