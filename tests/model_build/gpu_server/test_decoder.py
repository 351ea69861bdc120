"""The decoder as a process: layouts and refusals come back, and so does the process when it dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import numpy as np

from handlers.errors import InvalidInput, Overloaded, Refused
from model_build.gpu_server import decoder as decoders
from model_build.gpu_server.arena import Arena
from model_build.gpu_server.decoder import Decoder
from model_build.gpu_server.spec import from_json
from model_build.gpu_server.wire import Layout

SPEC = from_json(
    json.dumps({"model": "m", "release": "r", "tensors": [("x", "FP32", []), ("y", "FP32", [])]})
)


class Asked:
    """Bodies in an arena, and what the decoder said of them."""

    def __init__(self) -> None:
        self.arena = Arena(1 << 20, 80)
        self.decoder = Decoder(self.arena.fd)
        self.answers: asyncio.Queue[tuple[int, Layout | Exception]] = asyncio.Queue()

    def ask(self, data: object, shape: int) -> int:
        at = self.arena.acquire()
        assert at is not None
        text = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [shape], "data": data}]})
        self.arena.memory[at : at + len(text)] = text.encode()
        self.decoder.decode(at, len(text), 1 << 20, SPEC, lambda said: self.answers.put_nowait((at, said)))
        return at

    async def answer(self) -> tuple[int, Layout | Exception]:
        return await asyncio.wait_for(self.answers.get(), 30)


def test_bodies_are_decoded_in_place_and_bad_ones_refused_by_name() -> None:
    async def scenario() -> None:
        asked = Asked()
        await asked.decoder.start()
        values = np.arange(20_000, dtype=np.float32)
        place = asked.ask(values.tolist(), 20_000)
        bad = asked.ask(["word"] * 20_000, 20_000)
        assert await asked.answer() == (place, Layout(20_000, (0,), False, None))
        assert bytes(asked.arena.memory[place : place + values.nbytes]) == values.tobytes()
        at, error = await asked.answer()
        assert at == bad
        assert isinstance(error, InvalidInput)
        assert error.field == "inputs[x].data"
        assert len(str(error)) < 300
        await asked.decoder.stop()

    asyncio.run(scenario())


def test_what_a_dead_decoder_held_is_refused_and_it_is_started_again() -> None:
    async def scenario() -> None:
        asked = Asked()
        await asked.decoder.start()
        pid = asked.decoder.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        asked.ask([1.0], 1)
        os.kill(pid, signal.SIGKILL)
        _, error = await asked.answer()
        assert isinstance(error, Refused)
        asked.ask([1.0], 1)
        assert isinstance((await asked.answer())[1], Refused)
        while asked.decoder.pid is None:
            await asyncio.sleep(0.01)
        asked.ask([1.0], 1)
        assert isinstance((await asked.answer())[1], Layout)
        await asked.decoder.stop()

    asyncio.run(scenario())


def test_its_queue_is_bounded() -> None:
    async def scenario() -> None:
        asked = Asked()
        await asked.decoder.start()
        pid = asked.decoder.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        for _ in range(decoders.MAX_OPEN + 1):
            asked.ask([1.0], 1)
        assert isinstance((await asked.answer())[1], Overloaded)
        os.kill(pid, signal.SIGCONT)
        for _ in range(decoders.MAX_OPEN):
            assert isinstance((await asked.answer())[1], Layout)
        await asked.decoder.stop()

    asyncio.run(scenario())
