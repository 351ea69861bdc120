"""Text becomes token ids and WAV files waveforms; what is neither is refused by name."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.errors import InvalidInput, ReleaseError
from handlers.serving.manifest import Preprocess
from handlers.serving.preprocess import (
    PAD,
    UNKNOWN,
    build,
    decode_wavs,
    encode_texts,
    parse_vocabulary,
    tokenise,
)

VOCABULARY = b"<pad>\n<unk>\nhello\nworld\n!\n"


def wav(frames: bytes, rate: int = 8000, width: int = 2, channels: int = 1) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as writer:
        writer.setframerate(rate)
        writer.setsampwidth(width)
        writer.setnchannels(channels)
        writer.writeframes(frames)
    return buffer.getvalue()


def test_GIVEN_text_WHEN_encoded_THEN_ids_padding_and_unknown_words() -> None:
    vocabulary = parse_vocabulary(VOCABULARY)

    ids = encode_texts([b"Hello, WORLD!", "hello hello hello hello hello"], vocabulary, 4)

    assert ids.dtype == np.int64
    assert ids.tolist() == [[2, UNKNOWN, 3, 4], [2, 2, 2, 2]]
    assert encode_texts([b""], vocabulary, 2).tolist() == [[PAD, PAD]]


@given(st.text())
def test_GIVEN_any_text_WHEN_tokenised_THEN_tokens_hold_no_space_and_case_does_not_matter(text: str) -> None:
    tokens = tokenise(text)

    assert all(token and not token.isspace() for token in tokens)
    assert tokens == tokenise(text.lower())


@pytest.mark.parametrize("content", [b"", b"<pad>", b"a\nb\na\n"])
def test_GIVEN_a_bad_vocabulary_WHEN_parsed_THEN_a_release_error(content: bytes) -> None:
    with pytest.raises(ReleaseError, match="vocabulary"):
        parse_vocabulary(content)


def test_GIVEN_bytes_that_are_no_text_WHEN_encoded_THEN_the_element_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"inputs\[0\]\.data\[1\].*UTF-8"):
        encode_texts([b"fine", b"\xff\xfe"], parse_vocabulary(VOCABULARY), 4)


@pytest.mark.parametrize(
    ("width", "frames", "expected"),
    [
        (1, bytes([0, 128, 255]), [-1.0, 0.0, 127 / 128]),
        (2, np.array([-32768, 0, 16384], "<i2").tobytes(), [-1.0, 0.0, 0.5]),
        (3, b"\x00\x00\x80" + b"\x00\x00\x00" + b"\x00\x00\x40", [-1.0, 0.0, 0.5]),
        (4, np.array([-(2**31), 0, 2**30], "<i4").tobytes(), [-1.0, 0.0, 0.5]),
    ],
)
def test_GIVEN_pcm_of_each_width_WHEN_decoded_THEN_the_same_waveform(
    width: int, frames: bytes, expected: list[float]
) -> None:
    waves = decode_wavs([wav(frames, width=width)], 8000, 5)

    np.testing.assert_allclose(waves, [[*expected, 0.0, 0.0]], atol=1e-6)


def test_GIVEN_stereo_and_a_long_file_WHEN_decoded_THEN_averaged_and_cut() -> None:
    frames = np.array([[16384, 0], [0, 0], [16384, 16384]], "<i2").tobytes()

    np.testing.assert_allclose(decode_wavs([wav(frames, channels=2)], 8000, 2), [[0.25, 0.0]])


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"not a wav at all", wav(b"\0\0", rate=16000), wav(b""), wav(b"\0\0\0\0")[:-1]]
)
def test_GIVEN_no_wav_that_fits_WHEN_decoded_THEN_refused_with_what_is_allowed(content: bytes) -> None:
    with pytest.raises(InvalidInput, match="8000 Hz"):
        decode_wavs([content], 8000, 10)


def test_GIVEN_each_kind_WHEN_built_THEN_wire_arrays_become_graph_arrays() -> None:
    texts = np.array([[b"hello"], [b"world"]], dtype=object)
    (ids,) = build(Preprocess("text", vocabulary="v", max_tokens=3), lambda _: VOCABULARY)([texts])
    assert ids.shape == (2, 3)
    (waves,) = build(Preprocess("wav", sample_rate=8000, max_seconds=0.001), lambda _: b"")(
        [np.array([wav(b"\0\0")], dtype=object)]
    )
    assert waves.shape == (1, 8)
    numbers = np.zeros((1, 4), dtype=np.float32)
    assert build(Preprocess(), lambda _: b"")([numbers]) == (numbers,)
