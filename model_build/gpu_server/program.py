"""Loading an exported program without unpickling anything.

`torch.export.load` reads a zip of JSON and raw weights, but falls back to pickle for tensor subclasses,
custom
objects, legacy archives and sample inputs. A release never needs those, so an archive that holds one is
refused before PyTorch sees it.
"""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from handlers.errors import ReleaseError

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def load(path: Path) -> ExportedProgram:
    """The exported program in `path`. Raises ReleaseError when it is not one, or would need unpickling."""
    import torch

    refuse_pickles(path)
    try:
        return torch.export.load(path)
    except Exception as error:  # PyTorch raises many kinds here; each means that the file cannot be served
        raise ReleaseError(f"{path.name}: not a loadable torch.export program ({error})") from error


def refuse_pickles(path: Path) -> None:
    """Raises ReleaseError naming the first part of the archive that could only be read by unpickling it."""
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                part = PurePosixPath(name)
                if part.parent.name == "sample_inputs":
                    if archive.getinfo(name).file_size == 0:  # the build empties it: nothing to unpickle
                        continue
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
                elif part.suffix == ".pt" or part.name.startswith(("custom_obj", "opaque_obj")):
                    raise ReleaseError(f"{path.name}: {name} is a pickle; export it again with plain tensors")
                elif part.name.endswith("_config.json"):
                    _refuse_pickled_tensors(path, name, json.loads(archive.read(name)))
    except (zipfile.BadZipFile, ValueError, OSError, pickle.UnpicklingError) as error:
        raise ReleaseError(f"{path.name}: not a torch.export archive ({error})") from error


def _refuse_pickled_tensors(path: Path, part: str, config: object) -> None:
    entries = config.get("config", {}) if isinstance(config, dict) else {}
    for tensor, entry in entries.items():
        if entry.get("use_pickle"):
            raise ReleaseError(
                f"{path.name}: {part} stores {tensor} as a pickle; export it with plain tensors"
            )
