"""From wire inputs to graph tensors: text becomes token ids, a WAV becomes a waveform, numbers pass.

Training and serving use this very code, so that a model never meets inputs that it was not trained on.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from handlers.errors import InvalidInput, ReleaseError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from handlers.serving.manifest import Preprocess

    Arrays = Sequence[NDArray[Any]]
    Preprocessor = Callable[[Arrays], tuple[NDArray[Any], ...]]

PAD, UNKNOWN = 0, 1
"""Token ids with a fixed meaning: the first two lines of every vocabulary file."""

_TOKEN = re.compile(r"\w+|[^\w\s]")


def build(spec: Preprocess, read: Callable[[str], bytes]) -> Preprocessor:
    """Make the function from wire arrays to graph arrays; `read` gives a release's file by its name."""
    if spec.kind == "text":
        vocabulary = parse_vocabulary(read(spec.vocabulary or ""))
        return lambda inputs: (encode_texts(inputs[0].ravel().tolist(), vocabulary, spec.max_tokens),)
    if spec.kind == "wav":
        samples = round(spec.sample_rate * spec.max_seconds)
        return lambda inputs: (decode_wavs(inputs[0].ravel().tolist(), spec.sample_rate, samples),)
    return tuple


def tokenise(text: str) -> list[str]:
    """Lower-case words and single punctuation marks, in order."""
    return _TOKEN.findall(text.lower())


def parse_vocabulary(content: bytes) -> dict[str, int]:
    """Token → id, the id being its line; the first two lines stand for padding and unknown words.

    Raises ReleaseError when there are fewer than two lines or a token comes twice.
    """
    lines = content.decode().splitlines()
    vocabulary = {token: index for index, token in enumerate(lines)}
    if len(lines) < 2 or len(vocabulary) != len(lines):
        raise ReleaseError(
            f"vocabulary: {len(lines)} lines, {len(vocabulary)} distinct; allowed: 2 or more, all distinct"
        )
    return vocabulary


def encode_texts(
    texts: Sequence[bytes | str], vocabulary: dict[str, int], max_tokens: int
) -> NDArray[np.int64]:
    """UTF-8 texts → INT64 [len(texts), max_tokens]: cut or padded with `PAD`, words outside are `UNKNOWN`.

    Raises InvalidInput for an element that is not UTF-8.
    """
    ids = np.full((len(texts), max_tokens), PAD, dtype=np.int64)
    for row, raw in enumerate(texts):
        try:
            text = raw if isinstance(raw, str) else raw.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(f"inputs[0].data[{row}]", raw[:40], "text in UTF-8") from error
        for column, token in enumerate(tokenise(text)[:max_tokens]):
            ids[row, column] = vocabulary.get(token, UNKNOWN)
    return ids


def decode_wavs(files: Sequence[bytes | str], sample_rate: int, samples: int) -> NDArray[np.float32]:
    """WAV files → FP32 [len(files), samples] in [-1, 1): mono (channels averaged), cut or zero-padded.

    PCM of 8, 16, 24 or 32 bit. Raises InvalidInput for anything else and for another sample rate (Hz).
    """
    waves = np.zeros((len(files), samples), dtype=np.float32)
    for row, raw in enumerate(files):
        field = f"inputs[0].data[{row}]"
        wave = _pcm(field, raw if isinstance(raw, bytes) else raw.encode(), sample_rate)[:samples]
        waves[row, : len(wave)] = wave
    return waves


def _pcm(field: str, content: bytes, sample_rate: int) -> NDArray[np.float32]:
    import wave  # only audio models pay for it at cold start

    allowed = f"a PCM WAV file of 8, 16, 24 or 32 bit at {sample_rate} Hz"
    try:
        with wave.open(io.BytesIO(content)) as reader:
            rate, width, channels = reader.getframerate(), reader.getsampwidth(), reader.getnchannels()
            frames = reader.readframes(reader.getnframes())
    except (wave.Error, EOFError) as error:
        raise InvalidInput(field, content[:12], f"{allowed} ({error or 'it ends too early'})") from error
    if rate != sample_rate:
        raise InvalidInput(field, f"{rate} Hz", allowed)
    if width not in (1, 2, 3, 4) or not frames or len(frames) % (width * channels):
        raise InvalidInput(field, f"{8 * width} bit, {len(frames)} bytes", allowed)
    values = _to_unit(np.frombuffer(frames, dtype=np.uint8), width)
    mono: NDArray[np.float32] = values.reshape(-1, channels).mean(axis=1, dtype=np.float32)
    return mono


def _to_unit(frames: NDArray[np.uint8], width: int) -> NDArray[np.float32]:
    if width == 1:  # 8-bit WAV is unsigned
        return (frames.astype(np.float32) - 128.0) / 128.0
    widened = np.zeros((frames.size // width, 4), dtype=np.uint8)
    widened[:, 4 - width :] = frames.reshape(-1, width)
    return widened.view("<i4").ravel().astype(np.float32) / 2.0**31
