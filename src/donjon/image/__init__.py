"""The measured guest image of the VM Keeps: a kernel, and an initramfs with Python, the engine and Donjon.

    image = donjon.image.build("production")    fetch, unpack, pack; or find what was built
    image = donjon.image.find("production")     what `donjon run` takes; PlatformError with what to do if there is none
    image.kernel, image.initrd, image.cmdline   what is measured

Equal sources give equal bytes on every machine: `docs/image.md` says how, and what is in it.
"""

from __future__ import annotations

from donjon.image.recipe import VARIANTS
from donjon.image.store import Image, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from donjon.image.building import Progress

__all__ = ["VARIANTS", "Image", "build", "find"]


def build(variant: str = "production", progress: Progress | None = None, out: str | None = None) -> Image:
    """Make an image, or find the one that was made; see `building.build`."""
    from donjon.image import building  # what `find` does without, and it is heavy

    return building.build(variant, progress, out)
