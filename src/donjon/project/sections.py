"""What a compiler leaves in a module that nobody needs at run time.

C libraries come with a hundred times their size in debugging data. Dropped here are the sections named `.debug_...`;
the function names stay, because a backtrace shows them.   [WASM-CORE, binary format, modules]
"""

__all__ = ["without_debug_sections"]

HEADER = 8  # bytes: the magic number and the version
CUSTOM = 0


def without_debug_sections(module: bytes) -> bytes:
    """Return the module without its DWARF sections. What cannot be read as sections is returned as it is:
    judging modules is the engine's task."""
    kept = [module[:HEADER]]
    position = HEADER
    while position < len(module):
        try:
            length, start = leb128(module, position + 1)
            if module[position] == CUSTOM:
                name_length, name_start = leb128(module, start)
                drop = module[name_start : name_start + name_length].startswith(b".debug_")
            else:
                drop = False
        except IndexError:
            return module
        if start + length > len(module):
            return module
        if not drop:
            kept.append(module[position : start + length])
        position = start + length
    return b"".join(kept)


def leb128(data: bytes, position: int) -> tuple[int, int]:
    """Read an unsigned number; return it and the position after it. Raises IndexError at the end of the data."""
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position
