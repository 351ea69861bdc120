"""Where an emulated arm64 Python is, if there is one: `make arm64` puts it into `.turnout/arm64`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from model_build.sources import ROOT

HOME = ROOT / ".turnout" / "arm64"
EMULATOR = HOME / "emulator" / "usr" / "bin" / "qemu-aarch64"
SITE = HOME / "root" / "site"


@dataclass(frozen=True, slots=True)
class Arm64:
    """`command`: starts an aarch64 Python under the emulator; `packages`: numpy and onnxruntime for it."""

    command: tuple[str, ...]
    packages: Path


def find(home: Path = HOME) -> Arm64 | None:
    """The emulated Python below `home`, None where there is none."""
    root = home / "root"
    pythons = sorted((root / "usr" / "bin").glob("python3.*"))
    emulator = home / EMULATOR.relative_to(HOME)
    if not pythons or not emulator.is_file():
        return None
    command = (str(emulator), "-L", str(root), "-cpu", "neoverse-n1", str(pythons[0]))
    return Arm64(command, home / SITE.relative_to(HOME))
