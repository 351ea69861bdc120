"""Which machine a shared object is for, read from its ELF header (System V ABI, e_machine at offset 18)."""

from __future__ import annotations

import struct
from pathlib import Path

from handlers.errors import BuildError

MACHINES = {0x3E: "x86_64", 0xB7: "arm64"}


def architecture(path: Path) -> str | None:
    """`arm64`, `x86_64` or `unknown 0x…` for an ELF file, None for any other file."""
    with path.open("rb") as file:
        header = file.read(20)
    if len(header) < 20 or header[:4] != b"\x7fELF":
        return None
    order = "<" if header[5] == 1 else ">"
    (machine,) = struct.unpack_from(f"{order}H", header, 18)
    return MACHINES.get(machine, f"unknown 0x{machine:x}")


def check(tree: Path, wanted: str) -> None:
    """Raise BuildError unless every shared object under `tree` is ELF code for `wanted`."""
    for path in sorted(tree.rglob("*.so*")):
        found = architecture(path)
        if found not in (None, wanted):
            name = path.relative_to(tree)
            raise BuildError(f"{name} in the Lambda package is for {found}, the stage wants {wanted}")
