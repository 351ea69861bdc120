"""Memory that the front, the decoder and the workers share: one file without a name, cut into equal slots.

A request's bytes are received straight into its slot and leave it only for the batch on the device, so each
byte is copied once. The file is sparse: a slot costs what was once written to it, and slots are reused last
in, first out, so that memory stays with the hot ones.
"""

from __future__ import annotations

import mmap
import os
import tempfile


class Arena:
    """`count` slots of `slot_bytes` in shared memory; another process opens it with `Arena.open(fd, …)`."""

    def __init__(self, slot_bytes: int, count: int) -> None:
        self.slot_bytes = _whole_pages(slot_bytes)
        self.count = count
        self.fd = _anonymous_file()
        os.ftruncate(self.fd, self.slot_bytes * count)
        self._map = mmap.mmap(self.fd, self.slot_bytes * count)
        self.memory = memoryview(self._map)
        self._free = [slot * self.slot_bytes for slot in reversed(range(count))]

    @property
    def free(self) -> int:
        """How many slots are free."""
        return len(self._free)

    def acquire(self) -> int | None:
        """The byte offset of a free slot, or None when all are taken."""
        return self._free.pop() if self._free else None

    def release(self, offset: int) -> None:
        """Give a slot back."""
        self._free.append(offset)

    def close(self) -> None:
        """Unmap; whoever still holds a view keeps the memory until it lets go."""
        os.close(self.fd)


def open_shared(fd: int) -> memoryview:
    """The whole memory behind `fd`, as another process of the server sees it."""
    return memoryview(mmap.mmap(fd, os.fstat(fd).st_size))


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("turnout-gpu")
    descriptor, path = tempfile.mkstemp(prefix="turnout-gpu-")
    os.unlink(path)
    return descriptor


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
