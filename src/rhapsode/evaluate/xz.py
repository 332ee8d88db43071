"""Bits that `xz -9e` needs for a document by itself: what a general compressor makes of the same bytes.

The size is that of the whole .xz file, container included: 32 bytes of stream header, index and footer, and about 28
more for the block header, its check and padding. On documents of a few hundred bytes that is a good part of the result.
"""

import lzma

LEVEL = 9 | lzma.PRESET_EXTREME
_SMALLEST_DICTIONARY = 2**20


def compressed_bytes(data: bytes) -> int:
    """The size of `xz -9e -T1 < data`.

    The level's dictionary of 64 MiB is cut to the size of the data, which it cannot outgrow: the same size comes out,
    but half a gigabyte less is prepared for every document.
    """
    size = min(max(len(data), _SMALLEST_DICTIONARY), 64 * _SMALLEST_DICTIONARY)
    filters = [{"id": lzma.FILTER_LZMA2, "preset": LEVEL, "dict_size": size}]
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, check=lzma.CHECK_CRC64, filters=filters))
