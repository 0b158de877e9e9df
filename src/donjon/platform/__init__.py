"""What this machine offers for running Keeps: facts, found without changing anything and without printing.

`facts.py` finds them; importing this package costs nothing, so that the command line can look up a backend's name.
"""

__all__ = ["BACKENDS"]

BACKENDS = ("nil",)
"""Names of the backends of this version."""
