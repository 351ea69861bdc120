"""Which release is served: loaded at init, renewed in the background, never replaced by one that fails."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from handlers.errors import PointerMissing, ReleaseError
from handlers.serving.release import ReleaseSource, Served, fetch, open_release, parse_pointer


class ReleaseHolder:
    """The current release and why there is none or no newer one; `clock` gives seconds."""

    def __init__(
        self,
        source: ReleaseSource,
        root: Path,
        threads: int,
        clock: Callable[[], float],
        *,
        with_graph: bool,
        retry_s: float = 2.0,
    ) -> None:
        self._source = source
        self._root = root
        self._threads = threads
        self._clock = clock
        self._with_graph = with_graph
        self._retry_s = retry_s
        self._tried_at = float("-inf")
        self._lock = threading.Lock()
        self.served: Served | None = None
        self.error: ReleaseError | None = None

    def load(self) -> None:
        """Follow the pointer; on any failure keep what is served and remember the reason."""
        with self._lock:
            self._tried_at = self._clock()
            try:
                pointer = parse_pointer(self._source.pointer())
                if self.served is None or self.served.manifest.release != pointer.release:
                    manifest = fetch(self._source, pointer, self._root, with_graph=self._with_graph)
                    folder = self._root / pointer.release
                    before = self.served
                    self.served = open_release(folder, manifest, self._threads, with_graph=self._with_graph)
                    if before is not None:
                        self._forget(before)
                self.error = None
            except ReleaseError as error:
                self.error = error

    def _forget(self, served: Served) -> None:
        """Give back the room in /tmp; answers in flight keep the files that they have mapped."""
        import shutil  # only when a release is replaced

        shutil.rmtree(self._root / served.manifest.release, ignore_errors=True)

    def current(self) -> Served:
        """What is served now. Raises the ReleaseError that stands in the way when there is nothing."""
        if self.served is None and self._clock() - self._tried_at >= self._retry_s:
            self.load()
        if self.served is None:
            raise self.error or PointerMissing("no release has been loaded")
        return self.served
