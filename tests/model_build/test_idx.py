import struct

import numpy as np
import pytest

from handlers.errors import BuildError
from model_build.idx import parse

PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
WHOLE = struct.pack(">IIII", 0x00000803, 2, 3, 4) + PIXELS.tobytes()


def test_GivenAWholeFile_WhenParsed_ThenItsArrayComesBack() -> None:
    np.testing.assert_array_equal(parse(WHOLE, axes=3, name="images"), PIXELS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (WHOLE[:10], "10 bytes are too few for an IDX header of 16 bytes"),
        (WHOLE[:-5], "images is short: shape (2, 3, 4) needs 24 bytes, found 19"),
        (WHOLE + b"x", "images has bytes left over: shape (2, 3, 4) needs 24 bytes, found 25"),
        (struct.pack(">I", 0x00000801) + WHOLE[4:], "magic number is 0x00000801, expected 0x00000803"),
        (struct.pack(">I", 0x00000D03) + WHOLE[4:], "magic number is 0x00000d03, expected 0x00000803"),
        (b"\x1f\x8b" + WHOLE, "magic number is 0x1f8b0000"),
    ],
)
def test_GivenADamagedFile_WhenParsed_ThenTheErrorSaysHow(content: bytes, said: str) -> None:
    with pytest.raises(BuildError) as caught:
        parse(content, axes=3, name="images")
    assert said in str(caught.value)
