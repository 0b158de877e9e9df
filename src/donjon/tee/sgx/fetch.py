"""What Intel publishes: the same service for SGX and TDX."""

from donjon.tee.intel.fetch import BASE, VENDOR, address, keep, need, piece, sort

__all__ = ["BASE", "VENDOR", "address", "keep", "need", "piece", "sort"]
