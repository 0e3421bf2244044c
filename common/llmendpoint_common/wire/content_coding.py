"""Decompression of request bodies in steps of a bounded size. As in Ollama, the only coding is zstd (RFC 8878)."""

from __future__ import annotations

import sys

from llmendpoint_common.process.errors import RequestBodyError
from llmendpoint_common.wire.pieces import Pieces

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

#: A frame that needs a window of more than 8 MiB is refused (the minimum that RFC 8878, 3.1.1.1.2, recommends).
_OPTIONS: dict[int, int] = {DecompressionParameter.window_log_max: 23}
#: Size of the pieces that are given to the decompressor. It copies the rest of a piece at the end of each frame.
_INPUT_BYTES = 4 * 1024
#: Clients send one frame. A decompressor takes 16 µs, so a body of empty frames would take minutes.
_MAX_FRAMES = 100
_INVALID = "the body is not valid zstd"


class ZstdReader:
    """Decompresses frames that follow one another, as Ollama does. It holds the window of one frame."""

    __slots__ = ("_decompressor", "_frames", "_pieces", "_rest")

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._decompressor: ZstdDecompressor | None = None
        self._frames = 0
        #: The part of the last piece that comes after the end of a frame.
        self._rest = b""

    @property
    def has_more(self) -> bool:
        """Whether `read` has something to read."""
        decompressor = self._decompressor
        return bool(self._rest or self._pieces.size) or (decompressor is not None and not decompressor.needs_input)

    def read(self, limit_bytes: int) -> bytes:
        """Take at most 4 KiB of the pieces and return decompressed bytes, at most so many, possibly none.

        Raises RequestBodyError if the body is not valid.
        """
        decompressor, piece = self._decompressor, b""
        if decompressor is None or decompressor.needs_input:
            piece, self._rest = self._rest or self._pieces.take(_INPUT_BYTES), b""
            if not piece:
                return b""
        if decompressor is None:
            self._frames += 1
            if self._frames > _MAX_FRAMES:
                raise RequestBodyError(f"the body has more than {_MAX_FRAMES} frames of zstd")
            decompressor = self._decompressor = ZstdDecompressor(options=_OPTIONS)
        try:
            data = decompressor.decompress(piece, max_length=limit_bytes)
        except ZstdError as error:
            raise RequestBodyError(_INVALID) from error
        if decompressor.eof:
            self._rest = decompressor.unused_data
            self._decompressor = None
        return data

    def finish(self) -> None:
        """Raise RequestBodyError if the last frame is incomplete."""
        if self._decompressor is not None:
            raise RequestBodyError(_INVALID)
