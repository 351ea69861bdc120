"""Virtual environments for tools whose requirements do not go with turnout's own.

The SageMaker SDK wants another protobuf and rich, the compression peers another onnxruntime's friends: each
gets an environment under `.turnout/`, made on first use, that falls back to turnout's own packages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from handlers.errors import BuildError
from model_build.sources import ROOT

HOME = ROOT / ".turnout"


def python_with(name: str, packages: Sequence[str], home: Path = HOME) -> Path:
    """The interpreter of the environment `home`/name, with `packages` (pinned) installed if it is new.

    Progress goes to stderr. Raises BuildError when they cannot be installed; nothing half-made stays.
    """
    folder = home / name
    python = folder / "bin" / "python"
    if python.exists():
        return python
    listed = ", ".join(packages)
    print(f"{name}: installing {listed} into {folder}", file=sys.stderr, flush=True)
    part = folder.with_name(f"{name}.partial")
    shutil.rmtree(part, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(part)], check=True)  # noqa: S603  # this very interpreter
    site = next((part / "lib").glob("python*")) / "site-packages"
    (site / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    command = [str(part / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    done = subprocess.run([*command, *packages], stdout=sys.stderr, check=False)  # noqa: S603  # pinned packages
    if done.returncode != 0:
        shutil.rmtree(part)
        raise BuildError(f"{name}: pip could not install {listed}; see its words above")
    part.rename(folder)
    return python
