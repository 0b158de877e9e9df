"""Simulated hardware: TEEs that sign real formats under roots of their own, for development and tests.

    lab = sim.create("lab", now)                     keys and roots, made on the spot and kept in a directory
    guest = sim.load("lab").guest("snp", workload)   a source of evidence, as hardware is one
    guest.collect(report_data)                       what a certificate request carries

It drives the very same code as the real thing and proves nothing: whoever judges its evidence has to be told to believe
`lab/roots.toml` and to accept what is unattested, and the verdict says that it was simulated.
"""

from donjon.sim.lab import Guest, Lab, create, load, words
from donjon.sim.request import request

__all__ = ["Guest", "Lab", "create", "load", "request", "words"]
