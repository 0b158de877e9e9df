"""The lab of simulated hardware that the tests of `donjon.sim` have, here too."""

from tests.sim.conftest import folder, lab

__all__ = ["folder", "lab"]
