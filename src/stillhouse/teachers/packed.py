"""Bodies that come compressed although nobody asked for it: opened within bounds, or not at all. Pure.

Covered: gzip of any number of members, deflate with and without zlib's frame, zstd of any number of frames and window, layers
of them, archives that expand to more than any answer is. Not covered: br and whatever else, which is not opened.
"""

import zlib

import zstandard

_DEFLATE_RAW, _ZLIB, _GZIP = -zlib.MAX_WBITS, zlib.MAX_WBITS, zlib.MAX_WBITS | 16
# As large as a window can be: a frame says how much it needs, and the size of what comes out is bounded all the same.
_LONGEST_WINDOW = 1 << 31


class TooLarge(Exception):
    """It holds more than was allowed."""


class Unreadable(Exception):
    """It is not what its name says, is cut off, or is of a kind that is not opened."""


def unpack(raw: bytes, encoding: str, most: int) -> bytes:
    """A body without its ``Content-Encoding``. Raises TooLarge, Unreadable."""
    for layer in reversed([name.strip().lower() for name in encoding.split(",") if name.strip()]):
        raw = _open(raw, layer, most)
    return raw


def _open(raw: bytes, layer: str, most: int) -> bytes:
    try:
        match layer:
            case "identity":
                return raw
            case "gzip" | "x-gzip":
                return _inflate(raw, _GZIP, most)
            case "deflate":
                try:
                    return _inflate(raw, _ZLIB, most)
                except zlib.error:  # many servers leave out the frame that RFC 9110 asks for
                    return _inflate(raw, _DEFLATE_RAW, most)
            case "zstd":
                return _zstd(raw, most)
    except (zlib.error, zstandard.ZstdError) as failure:
        raise Unreadable(f"{layer}: {failure}") from failure
    raise Unreadable(f"{layer[:20]} is not opened here")


def _inflate(raw: bytes, wbits: int, most: int) -> bytes:
    pieces: list[bytes] = []
    while raw or not pieces:
        opened = zlib.decompressobj(wbits)
        pieces.append(opened.decompress(raw, most + 1))
        most -= len(pieces[-1])
        if most < 0:
            raise TooLarge
        if not opened.eof:
            raise Unreadable("it is cut off")
        raw = opened.unused_data
        if wbits != _GZIP and raw:
            raise zlib.error("something follows its end")
        if not raw.strip(b"\x00"):  # padding after the last member
            raw = b""
    return b"".join(pieces)


def _zstd(raw: bytes, most: int) -> bytes:
    opened = zstandard.ZstdDecompressor(max_window_size=_LONGEST_WINDOW)
    with opened.stream_reader(raw, read_across_frames=True) as reader:
        data = bytes(reader.read(most + 1))
    if len(data) > most:
        raise TooLarge
    return data
