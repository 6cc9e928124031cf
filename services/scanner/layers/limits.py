"""How much of an archive, and of an image of many, is looked at before it is refused."""

from dataclasses import dataclass

MIB = 1024 * 1024


class LayerRefused(Exception):
    """The archive is broken, hostile or larger than the limits; the message says which, and reading it stopped."""


@dataclass(frozen=True)
class Limits:
    """Bounds on one archive, and on the image it is a layer of. What exceeds one is refused with a reason."""

    unpacked: int = 32 * 1024 * MIB
    """Bytes after decompression."""
    ratio: int = 250
    """Unpacked bytes per packed byte, once more than `ratio_from` were unpacked."""
    ratio_from: int = 1024 * MIB
    members: int = 3_000_000
    path: int = 8192
    """Bytes of a member's path."""
    extended_header: int = MIB
    """Bytes of one pax header or GNU long name."""
    file: int = 64 * MIB
    """Bytes of one file that is read; the package database of a large system has some 10 MiB."""
    description: int = 2 * MIB
    """Bytes of a file that describes one package or the distribution. JSON takes thirty times its size in memory."""
    read: int = 512 * MIB
    """Bytes of all files that are read."""
    facts: int = 250_000
    """Packages, owned files and whiteouts that are remembered of one archive, and of one image; a long path is many."""
    window: int = 64 * MIB
    """Memory that a zstd stream may ask for."""
    image_layers: int = 1000
    """Different layers of an image, or of all images of an index together."""
    image_unpacked: int = 128 * 1024 * MIB
    """Bytes after decompression of all these layers."""
    image_members: int = 10_000_000
    """Members of all these layers."""
