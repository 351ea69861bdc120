"""A stand-in for what Lambda's managed Python runtime brings: awslambdaric and boto3, and nothing else.

Sandboxes run `python -S`, so the virtual environment is out of their sight; they see their own package and
this folder of links into it. Links, because copying botocore would take longer than deploying.
"""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

DISTRIBUTIONS = (
    "awslambdaric", "snapshot_restore_py", "simplejson",
    "boto3", "botocore", "jmespath", "s3transfer", "python-dateutil", "urllib3", "six",
)  # fmt: skip


def make_runtime_folder(folder: Path) -> Path:
    """Links every top-level module of the distributions into `folder`, anew each time; returns it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in DISTRIBUTIONS:
        distribution = importlib.metadata.distribution(name)
        for top in sorted({file.parts[0] for file in distribution.files or ()}):
            if top in ("..", "bin", "__pycache__") or top.endswith(".dist-info"):
                continue
            (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
    return folder
