"""Zstandard, through the library that the image's own lock names, so that equal content gives equal bytes everywhere.

This runs inside the pinned interpreter, which is started with the pinned libraries in its path.   [RFC8878]
"""

from __future__ import annotations

import ctypes

from donjon.errors import ParseError, PlatformError

__all__ = ["compress", "decompress"]

LIBRARY = "libzstd.so.1"
C_LEVEL, C_WINDOW_LOG, C_CHECKSUM = 100, 101, 201  # ZSTD_cParameter


def compress(data: bytes, level: int, window_log: int) -> bytes:
    """One frame, made in one thread, with the content's length and a checksum in it."""
    library = _library()
    context = library.ZSTD_createCCtx()
    try:
        for parameter, value in ((C_LEVEL, level), (C_WINDOW_LOG, window_log), (C_CHECKSUM, 1)):
            _check(library, library.ZSTD_CCtx_setParameter(context, parameter, value))
        room = library.ZSTD_compressBound(len(data))
        out = ctypes.create_string_buffer(room)
        size = _check(library, library.ZSTD_compress2(context, out, room, data, len(data)))
        return out.raw[:size]
    finally:
        library.ZSTD_freeCCtx(context)


def decompress(data: bytes, limit: int) -> bytes:
    """The content of the first frame of `data`; what follows it is not looked at.

    Raises:
        ParseError: it is no frame, is damaged, or has more than `limit` bytes.
    """
    library = _library()
    length = library.ZSTD_findFrameCompressedSize(data, len(data))
    size = library.ZSTD_getFrameContentSize(data, len(data))
    if library.ZSTD_isError(length):
        raise ParseError("zstd: expected a whole frame")
    if size > limit:  # also the two values that say that it is not known
        size = limit
    out = ctypes.create_string_buffer(size)
    got = library.ZSTD_decompress(out, size, data, length)
    if library.ZSTD_isError(got):
        raise ParseError(f"zstd: {library.ZSTD_getErrorName(got).decode()}")
    return out.raw[:got]


def _check(library: ctypes.CDLL, result: int) -> int:
    if library.ZSTD_isError(result):
        raise PlatformError(f"zstd: {library.ZSTD_getErrorName(result).decode()}")
    return result


def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise PlatformError(f"cannot load {LIBRARY}: {error}") from error
    size, pointer, number = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int
    prototypes: dict[str, tuple[object, ...]] = {
        "ZSTD_createCCtx": (pointer,),
        "ZSTD_freeCCtx": (size, pointer),
        "ZSTD_CCtx_setParameter": (size, pointer, number, number),
        "ZSTD_compressBound": (size, size),
        "ZSTD_compress2": (size, pointer, pointer, size, ctypes.c_char_p, size),
        "ZSTD_isError": (ctypes.c_uint, size),
        "ZSTD_getErrorName": (ctypes.c_char_p, size),
        "ZSTD_findFrameCompressedSize": (size, ctypes.c_char_p, size),
        "ZSTD_getFrameContentSize": (ctypes.c_ulonglong, ctypes.c_char_p, size),
        "ZSTD_decompress": (size, pointer, size, ctypes.c_char_p, size),
    }
    for name, (result, *parameters) in prototypes.items():
        function = getattr(library, name)  # which the library keeps; library[name] would be another each time
        function.restype, function.argtypes = result, parameters
    return library
