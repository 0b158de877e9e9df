"""What this machine offers for running Keeps: facts, found without changing anything and without printing.

`machine.py` is what is looked at, here or in a record; `backends.py` what each backend needs; `facts.py` all of it for
`donjon platform info`; `doctor.py` judges; `choice.py` chooses; `caching.py` fetches collateral. Importing this package
costs nothing, so that the command line can look up a backend's name.
"""

__all__ = ["BACKENDS"]

BACKENDS = ("auto", "nil", "kvm", "snp", "sev", "tdx")
"""What the option --backend takes: those that this version starts, and the choice among them. `sev` is Enarx's name of
snp."""
