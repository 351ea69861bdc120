"""The Lambda package, built without Docker: wheels for the target, stripped, byte-compiled, checked, zipped.

The package's identity is a hash of its inputs, so synth states it without building anything; the CDK CLI
runs this module when it publishes the asset, and a package that was built before comes from the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from handlers.errors import BuildError, InvalidConfig, TurnoutError
from infra import elf, package_tree

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".turnout" / "cache" / "package"
MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
GLIBC_MINOR = 34  # Amazon Linux 2023, under Lambda's python3.13
SMOKE_TEST = Path(__file__).parent / "package_smoke_test.py"

MANAGED_RUNTIME = ("boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six", "urllib3")


@dataclass(frozen=True, slots=True)
class Target:
    """Where the package runs: `architecture` is arm64 or x86_64, `python` is such as 3.13."""

    architecture: str
    python: str

    @property
    def is_host(self) -> bool:
        """Whether this machine could run the package with the interpreter that runs this code."""
        return self == host()

    @classmethod
    def named(cls, architecture: str) -> Target:
        """The target of a stage: Lambda's arm64 or x86_64 with Python 3.13, or `host` for this machine."""
        return host() if architecture == "host" else cls(architecture, "3.13")


@dataclass(frozen=True, slots=True)
class Package:
    """A finished package: its zip, its size unzipped in bytes, and whether it is byte-compiled."""

    zip: Path
    identity: str
    unzipped_bytes: int
    compiled: bool
    smoke_tested: bool

    def line(self, target: Target) -> str:
        """One line for a person: size, target, and what was not done."""
        missing = [] if self.compiled else [f"not byte-compiled (no Python {target.python} here)"]
        missing += [] if self.smoke_tested else ["not run here, only its ELF headers were checked"]
        size = f"{self.unzipped_bytes / 1e6:.0f} MB, {self.zip.stat().st_size / 1e6:.0f} MB zipped"
        return f"package {target.architecture} python{target.python}: {size}" + "".join(
            f"; {m}" for m in missing
        )


def host() -> Target:
    """This machine and this interpreter."""
    machine = platform.machine().lower()
    architecture = "arm64" if machine in ("arm64", "aarch64") else "x86_64"
    return Target(architecture, f"{sys.version_info.major}.{sys.version_info.minor}")


def interpreter(python: str) -> Path | None:
    """An interpreter of version `python` (such as 3.13) on this machine, or None."""
    if python == host().python:
        return Path(sys.executable)
    roots = (Path.home() / ".pyenv" / "versions", Path.home() / ".local" / "share" / "uv" / "python")
    found = [shutil.which(f"python{python}")]
    found += [str(path) for root in roots for path in sorted(root.glob(f"*{python}.*/bin/python{python}"))]
    for candidate in filter(None, found):
        probe = subprocess.run(  # noqa: S603 (an interpreter by name; a pyenv shim may exist and not work)
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
        )
        if probe.returncode == 0 and probe.stdout.strip() == python:
            return Path(candidate)
    return None


def identity(target: Target, root: Path = ROOT) -> str:
    """The hash (64 hex) of everything that decides the package's content."""
    digest = hashlib.sha256(f"{target} compiled={interpreter(target.python) is not None}".encode())
    for path in (Path(__file__), Path(package_tree.__file__), *_sources(root)):
        digest.update(f"\0{path.name if path.is_absolute() else path}\0".encode())
        digest.update((root / path).read_bytes())
    return digest.hexdigest()


def build(target: Target, say: Callable[[str], None] = lambda _: None, cache: Path = CACHE) -> Package:
    """The package for `target`, from `cache` when its inputs are unchanged; `say` receives progress.

    Raises BuildError when a wheel cannot be had, a shared object is for another machine, the smoke test
    fails, or the tree exceeds Lambda's 250 MB.
    """
    key = identity(target)
    done = cache / f"{key}.json"
    if done.exists():
        return _read(done)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".building-") as temporary:
        tree = Path(temporary) / "tree"
        say(f"package {target.architecture} python{target.python}: wheels")
        _install(target, tree, cache / "wheels" / f"{target.architecture}-{target.python}")
        package_tree.strip(tree)
        _copy_sources(tree)
        package_tree.check_size(tree, say)
        elf.check(tree, target.architecture)
        compiled = _compile(tree, target)
        tested = _smoke_test(tree, target)
        say(f"package {target.architecture} python{target.python}: zip")
        packed = package_tree.write_zip(tree, Path(temporary) / "package.zip")
        final = cache / f"{key}.zip"
        packed.replace(final)
        package = Package(final, key, package_tree.size(tree), compiled, tested)
        _write(package, done)
    say(package.line(target))
    return package


def _sources(root: Path) -> Iterator[Path]:
    handlers = sorted((root / "handlers").rglob("*.py"))
    return (path.relative_to(root) for path in (*handlers, root / "handlers" / "requirements.txt"))


def _copy_sources(tree: Path) -> None:
    for path in _sources(ROOT):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, tree / path)


def _install(target: Target, tree: Path, wheels: Path) -> None:
    """Download the wheels once into `wheels`, then install from there: a second build needs no network."""
    requirements = ROOT / "handlers" / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]
    folder = wheels / wanted
    options = ["--no-deps", "--only-binary=:all:", *_platform_options(target), "-r", str(requirements)]
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=_made(wheels), prefix=".downloading-") as partial:
            _pip("download", "-d", partial, *options)
            shutil.copytree(partial, folder)
    _pip(
        "install", "--no-index", "--find-links", str(folder), "--no-compile", "--target", str(tree), *options
    )


def _platform_options(target: Target) -> list[str]:
    if target.is_host:
        return []
    machine = MACHINES[target.architecture]
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 16, -1)]
    platforms = [option for tag in (*tags, f"manylinux2014_{machine}") for option in ("--platform", tag)]
    return [*platforms, "--python-version", target.python, "--implementation", "cp"]


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 (pip of this interpreter)
    if done.returncode:
        raise BuildError(f"pip {arguments[0]} failed for the Lambda package: {done.stderr.strip()[-600:]}")


def _compile(tree: Path, target: Target) -> bool:
    """Byte-compile for `target`, never checked against the source later; False without its interpreter."""
    python = interpreter(target.python)
    if python is None:
        return False
    options = ["--invalidation-mode", "unchecked-hash", "-s", str(tree), "-p", "/var/task", "-q"]
    done = subprocess.run(  # noqa: S603 (the interpreter found above)
        [str(python), "-I", "-m", "compileall", *options, str(tree)], capture_output=True, text=True
    )
    if done.returncode:
        raise BuildError(f"byte-compiling the Lambda package failed: {done.stdout[-600:]}")
    return True


def _smoke_test(tree: Path, target: Target) -> bool:
    """Import all and run a one-node graph with the target's interpreter; False if it cannot run here."""
    python = interpreter(target.python)
    if python is None or target.architecture != host().architecture or sys.platform != "linux":
        return False
    runtime = _made(tree.parent / "runtime")
    for name in MANAGED_RUNTIME:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:
            raise BuildError(
                f"{name}, which Lambda's runtime provides, is not installed here: pip install -e ."
            )
        source = Path(found.origin)
        source = source.parent if source.name == "__init__.py" else source
        (runtime / source.name).symlink_to(source)
    command = [str(python), "-S", "-B", str(SMOKE_TEST)]
    paths = {"PYTHONPATH": f"{tree}:{runtime}", "PATH": "/usr/bin:/bin", "HOME": str(tree.parent)}
    environment = {**paths, "OPENBLAS_NUM_THREADS": "1", "AWS_DEFAULT_REGION": "us-east-1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)  # noqa: S603 (as above)
    if done.returncode:
        raise BuildError(f"the Lambda package does not run: {done.stderr.strip()[-600:]}")
    return True


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write(package: Package, path: Path) -> None:
    facts = {
        "zip": package.zip.name,
        "identity": package.identity,
        "unzipped_bytes": package.unzipped_bytes,
        "compiled": package.compiled,
        "smoke_tested": package.smoke_tested,
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(facts, indent=1))
    partial.replace(path)


def _read(path: Path) -> Package:
    facts = json.loads(path.read_text())
    return Package(**{**facts, "zip": path.parent / facts["zip"]})


def main() -> None:
    """What the CDK CLI runs when it publishes the asset: builds, and prints the zip's path on stdout."""
    parser = argparse.ArgumentParser(prog="python -m infra.bundling")
    parser.add_argument("architecture", choices=["arm64", "x86_64", "host"])
    parser.add_argument(
        "--identity", help="the package of inputs with this hash: built before, or still present"
    )
    arguments = parser.parse_args()
    target = Target.named(arguments.architecture)
    built = CACHE / f"{arguments.identity}.json"
    if built.exists():
        print(_read(built).zip)
        return
    if arguments.identity and arguments.identity != identity(target):
        raise InvalidConfig(
            "identity", arguments.identity, "the hash of the present sources; run cdk synth again"
        )
    print(build(target, say=lambda text: print(text, file=sys.stderr)).zip)


if __name__ == "__main__":
    try:
        main()
    except TurnoutError as error:
        sys.exit(f"turnout: error: {error}")
