"""Compact text for long lists of counts: varints (LEB128), compressed with zlib, as Base64.

Decoding is bounded, because the operator decodes what pods wrote that it does not trust.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterable, Iterator

#: Upper bound of the decompressed size of all texts of one result. The largest that a run writes takes about 1 MiB.
MAX_BYTES = 4 * 1024 * 1024
#: Bits of the largest number, so that JSON represents it exactly.
_MAX_BITS = 53


def pack(numbers: Iterable[int]) -> str:
    """Return a text for numbers from 0 to 2^53."""
    data = bytearray()
    for number in numbers:
        rest = number
        while rest >= 0x80:
            data.append(rest & 0x7F | 0x80)
            rest >>= 7
        data.append(rest)
    return base64.b64encode(zlib.compress(bytes(data), 9)).decode("ascii")


class Unpacker:
    """Reads texts until a limit of decompressed bytes, so that many small texts cannot take long either."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._remaining = max_bytes

    def unpack(self, text: str) -> list[int]:
        """Return the numbers in a text. Raises ValueError if the text is invalid or too long."""
        try:
            reader = zlib.decompressobj()
            data = reader.decompress(base64.b64decode(text, validate=True), self._remaining + 1)
        except (binascii.Error, zlib.error) as error:
            raise ValueError(f"packed counts are not valid: {error}") from None
        self._remaining -= len(data)
        if not reader.eof or self._remaining < 0:
            raise ValueError("packed counts are cut off or too long")
        return list(_numbers(data))


def unpack(text: str) -> list[int]:
    """Return the numbers in one text. Raises ValueError if the text is invalid or too long."""
    return Unpacker().unpack(text)


def _numbers(data: bytes) -> Iterator[int]:
    number = shift = 0
    for byte in data:
        number |= (byte & 0x7F) << shift
        if shift > _MAX_BITS or number >> _MAX_BITS:
            raise ValueError("a packed count is too large")
        if byte & 0x80:
            shift += 7
        else:
            yield number
            number = shift = 0
    if shift:
        raise ValueError("packed counts end inside a number")
