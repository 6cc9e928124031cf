"""Decompression of an archive piece by piece: gzip, zstd or none, told apart by the first bytes.

Whatever a piece unpacks to is handed on in chunks of at most 1 MiB, so memory does not depend on how well a bomb packs;
how much comes out in all is bounded by count and by ratio.
"""

from collections.abc import Callable
from typing import IO, Any, cast

import zstandard
from isal import isal_zlib

from services.scanner.layers.limits import MIB, LayerRefused, Limits

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
_CHUNK = MIB
_isal: Any = isal_zlib  # carries no complete types
_BROKEN: tuple[type[Exception], ...] = (_isal.error, zstandard.ZstdError)


class Unpacking:
    """Takes an archive's packed bytes and gives its plain ones to `take`."""

    def __init__(self, take: Callable[[bytes], None], limits: Limits) -> None:
        """`take` is called for each plain chunk."""
        self._take = take
        self._limits = limits
        self._start = b""
        self._stage: Callable[[bytes], None] | None = None
        self._gzip: Any = _isal.decompressobj(wbits=31)
        self._between_members = False
        self.packed = 0
        self.unpacked = 0

    def feed(self, piece: bytes) -> None:
        """Unpack a piece. Raises LayerRefused."""
        self.packed += len(piece)
        if self._stage is None:
            self._start += piece
            if len(self._start) < len(_ZSTD):
                return
            piece, self._stage = self._start, self._chosen()
        try:
            self._stage(piece)
        except _BROKEN as error:
            raise LayerRefused(f"the layer cannot be decompressed: {error}") from error

    def end(self) -> None:
        """Say that no more comes. Raises LayerRefused when the stream stops in the middle."""
        if self._stage is None:
            self._given(self._start)
        elif self._stage == self._feed_gzip and not (self._gzip.eof or self._between_members):
            raise LayerRefused("the layer's compressed stream is cut off")
        elif self.packed and not self.unpacked:
            raise LayerRefused("the layer's compressed stream holds nothing")

    def _chosen(self) -> Callable[[bytes], None]:
        if self._start.startswith(_GZIP):
            return self._feed_gzip
        if self._start.startswith(_ZSTD) or self._start[1:4] == _SKIPPABLE:
            decompressor = zstandard.ZstdDecompressor(max_window_size=self._limits.window)
            writer = decompressor.stream_writer(cast("IO[bytes]", _Sink(self._given)), write_size=_CHUNK)
            return lambda piece: _write(writer, piece)
        return self._given

    def _feed_gzip(self, piece: bytes) -> None:
        while piece:
            if self._gzip.eof:  # a further member; zeros behind the last one are padding
                if self._between_members and not piece.strip(b"\0"):
                    return
                self._gzip = _isal.decompressobj(wbits=31)
            self._given(self._gzip.decompress(piece, _CHUNK))
            self._between_members = self._gzip.eof
            piece = self._gzip.unused_data if self._gzip.eof else self._gzip.unconsumed_tail

    def _given(self, chunk: bytes) -> None:
        self.unpacked += len(chunk)
        if self.unpacked > self._limits.unpacked:
            raise LayerRefused(f"the layer unpacks to more than {self._limits.unpacked} bytes")
        if self.unpacked > self._limits.ratio_from and self.unpacked > self.packed * self._limits.ratio:
            raise LayerRefused(f"the layer unpacks to more than {self._limits.ratio} times its size")
        self._take(chunk)


class _Sink:
    """What the zstd library writes to."""

    def __init__(self, given: Callable[[bytes], None]) -> None:
        self._given = given

    def write(self, chunk: bytes) -> int:
        self._given(bytes(chunk))
        return len(chunk)


def _write(writer: zstandard.ZstdDecompressionWriter, piece: bytes) -> None:
    writer.write(piece)
