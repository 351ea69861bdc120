"""Init: everything that is made once in a sandbox, in the order that makes a cold start short.

The pointer and the release come over the network while numpy and ONNX Runtime are being imported.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from handlers.adapters.release_store import ReleaseStore
from handlers.adapters.signed_http import SignedHttp
from handlers.serving.holder import ReleaseHolder
from handlers.settings import Settings

if TYPE_CHECKING:
    from handlers.adapters.wiring import Running

POOL_THREADS = 16
SWITCH_S = 0.0005
"""How long a thread may hold the interpreter while another wants it; Python's own 5 ms are the whole margin
of a deadline, and a background thread may be importing boto3 when an answer is due."""


def start(environ: Mapping[str, str], clock: Callable[[], float]) -> Running:
    """Initialise a function from its environment. Raises InvalidConfig; a bad release only unreadies it."""
    settings = Settings.from_env(environ)
    sys.setswitchinterval(SWITCH_S)
    pool = ThreadPoolExecutor(POOL_THREADS, "turnout")
    store = ReleaseStore(
        SignedHttp(settings.region, environ), settings.bucket, settings.model, settings.pointer
    )
    root = Path(environ.get("TMPDIR", "/tmp"), "turnout")  # noqa: S108 - Lambda's only writable folder
    holder = ReleaseHolder(store, root, settings.threads, clock, with_graph=settings.role != "front")
    loading = pool.submit(holder.load)
    if settings.role != "front":
        import handlers.serving.session  # noqa: F401 - ONNX Runtime, while the network brings the release
    from handlers.adapters.wiring import wire

    running = wire(settings, holder, pool, clock, environ)
    loading.result()
    running.log_start()
    if environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start" or settings.role == "front":
        running.prepare()
    gc.freeze()  # what init made lives as long as the sandbox: no request should pay for searching it
    return running
