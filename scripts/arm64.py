"""`make arm64`: what the build needs to run a cpu variant on an emulated arm64 CPU, in `.turnout/arm64`.

Debian's own packages and PyPI's aarch64 wheels, unpacked into a folder: nothing is installed, root is not
needed. The emulator comes from Debian 13, because Debian 12's (7.2) crashes in ONNX Runtime's aarch64 wheel.
Needs apt-get, dpkg and Debian's archive keyring.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

from handlers.errors import TurnoutError
from model_build.arm64 import EMULATOR, HOME, SITE, find

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
PYTHON_SUITE, PYTHON = "bookworm", "3.11"
PYTHON_PACKAGES = (
    f"python{PYTHON}-minimal", f"libpython{PYTHON}-minimal", f"libpython{PYTHON}-stdlib", "libc6",
    "libgcc-s1", "libstdc++6", "zlib1g", "libexpat1", "libssl3", "libbz2-1.0", "liblzma5", "libffi8",
    "libgomp1",
)  # fmt: skip
WHEELS = ("numpy", "onnxruntime", "orjson")
PLATFORMS = (
    "manylinux_2_28_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux2014_aarch64",
)


def mirror() -> str:
    """The Debian mirror that this machine uses. Raises TurnoutError when it uses none."""
    command = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    sites = sorted({site for site in found if not site.endswith("-security")})
    if not sites:
        raise TurnoutError("arm64: apt knows no Debian mirror here (apt-get update?)")
    return sites[0]


def unpack_debian(suite: str, architecture: str, packages: tuple[str, ...], target: Path, work: Path) -> None:
    """Downloads packages of a suite by an apt of its own (its files in `work`) and unpacks them."""
    state = work / "apt" / suite
    for folder in ("lists/partial", "cache/archives/partial", "debs"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()
    (state / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror()} {suite} main\n")
    settings = {
        "APT::Architecture": architecture, "APT::Architectures": architecture, "Dir::State": state,
        "Dir::State::status": state / "status", "Dir::Cache": state / "cache",
        "Dir::Etc::sourcelist": state / "sources.list", "Dir::Etc::sourceparts": "/dev/null",
        "APT::Sandbox::User": "root",
    }  # fmt: skip
    options = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
    run(["apt-get", "-qq", *options, "update"], state)
    run(["apt-get", "-qq", *options, "download", *packages], state / "debs")
    for file in sorted((state / "debs").glob("*.deb")):
        run(["dpkg", "-x", str(file), str(target)], state)


def unpack_wheels(target: Path, work: Path) -> None:
    """This environment's versions of the wheels, for aarch64."""
    folder = work / "wheels"
    wanted = [f"{name}=={version(name)}" for name in WHEELS]
    platforms = [word for name in PLATFORMS for word in ("--platform", name)]
    run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
         "--only-binary", ":all:", "--python-version", PYTHON, "--implementation", "cp", *platforms,
         "-d", str(folder), *wanted], work)  # fmt: skip
    for file in folder.glob("*.whl"):
        with zipfile.ZipFile(file) as wheel:
            wheel.extractall(target)


def run(command: list[str], folder: Path) -> None:
    """Runs to the end, its words on stderr. Raises TurnoutError when it fails."""
    if subprocess.run(command, cwd=folder, stdout=sys.stderr, check=False).returncode != 0:
        raise TurnoutError(f"arm64: {' '.join(command[:3])} … failed; its words are above")


def main() -> None:
    """Make the folder, whole or not at all."""
    if find() is not None:
        print(f"arm64: {HOME} is there", file=sys.stderr)
        return
    missing = [name for name in ("apt-get", "dpkg") if shutil.which(name) is None]
    if missing or not KEYRING.exists():
        raise TurnoutError(
            f"arm64: needs Debian's {', '.join(missing) or KEYRING}; parity is skipped without"
        )
    part = HOME.with_name("arm64.partial")
    shutil.rmtree(part, ignore_errors=True)
    (part / "work").mkdir(parents=True)
    print("arm64: emulator, Python and wheels", file=sys.stderr)
    unpack_debian("trixie", "amd64", ("qemu-user",), part / "emulator", part / "work")
    unpack_debian(PYTHON_SUITE, "arm64", PYTHON_PACKAGES, part / "root", part / "work")
    unpack_wheels(part / SITE.relative_to(HOME), part / "work")
    shutil.rmtree(part / "work")
    for file in (part / "emulator" / "usr" / "bin").iterdir():
        if file.name != EMULATOR.name:
            file.unlink()
    shutil.rmtree(HOME, ignore_errors=True)
    part.rename(HOME)


if __name__ == "__main__":
    try:
        main()
    except TurnoutError as error:
        print(f"turnout: error: {error}", file=sys.stderr)
        sys.exit(2)
