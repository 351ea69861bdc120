"""The IDX format of MNIST: a big-endian header (0, 0, type, axes, one uint32 an axis), then the bytes."""

from __future__ import annotations

import math
import struct

import numpy as np
import numpy.typing as npt

from handlers.errors import BuildError

UNSIGNED_BYTE = 0x08


def parse(content: bytes, *, axes: int, name: str) -> npt.NDArray[np.uint8]:
    """The uint8 array of an IDX file with exactly `axes` dimensions; `name` is for the error.

    Raises BuildError when the magic number, the number of axes or the length is wrong.
    """
    header = 4 + 4 * axes
    if len(content) < header:
        raise BuildError(f"{name}: {len(content)} bytes are too few for an IDX header of {header} bytes")
    magic = int.from_bytes(content[:4], "big")
    expected = UNSIGNED_BYTE << 8 | axes
    if magic != expected:
        raise BuildError(
            f"{name}: magic number is 0x{magic:08x}, expected 0x{expected:08x} "
            f"(unsigned bytes in {axes} dimension{'s' if axes > 1 else ''})"
        )
    shape = struct.unpack(f">{axes}I", content[4:header])
    wanted, found = math.prod(shape), len(content) - header
    if found != wanted:
        trouble = "is short" if found < wanted else "has bytes left over"
        raise BuildError(f"{name} {trouble}: shape {shape} needs {wanted} bytes, found {found}")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
