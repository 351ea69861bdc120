"""The store of releases: what is there, which one is current, how two differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from handlers.errors import InvalidInput, ReleaseError
from handlers.serving import manifest as manifests


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of `turnout release list`. Accuracy: the model's metric; times in ms."""

    model: str
    release: str
    current: bool
    precision: str
    cpu_accuracy: float
    gpu_accuracy: float | None
    size_bytes: int
    p50_ms: float
    escalation_share: float


@dataclass(frozen=True, slots=True)
class Change:
    """One number of two releases; `words`: the change as a reader wants it."""

    what: str
    first: float | str | None
    second: float | str | None
    words: str


@dataclass(frozen=True, slots=True)
class Shelved:
    """A release folder with its manifest as JSON values."""

    folder: Path
    document: dict[str, Any]

    def account(self) -> list[str]:
        """Its facts, one a line."""
        return [f"{what:<26}{text(value)}" for what, value in facts(self.document)]


def listed(store: Path, model: str | None = None) -> list[Entry]:
    """Every readable release under `store`, by model and then by id."""
    entries = []
    for home in _homes(store):
        if model is not None and home.name != model:
            continue
        current = current_of(home)
        for folder in _releases(home):
            document = _document(folder)
            cascade, variants = document["cascade"] or {}, document["variants"]
            entries.append(
                Entry(
                    model=home.name,
                    release=folder.name,
                    current=folder.name == current,
                    precision=variants["cpu"]["precision"],
                    cpu_accuracy=variants["cpu"]["accuracy"],
                    gpu_accuracy=variants.get("gpu", {}).get("accuracy"),
                    size_bytes=variants["cpu"]["size_bytes"],
                    p50_ms=document["profile"]["cpu"]["service_ms"]["p50"],
                    escalation_share=cascade.get("escalation_share", 0.0),
                )
            )
    return entries


def table(store: Path) -> str:
    """The current release of every model as a Markdown table, as the README has it."""
    lines = [
        "| model | gpu variant | cpu variant | cpu file | one CPU thread, p50 | escalated | guarantee |",
        "|---|---|---|---|---|---|---|",
    ]
    for home in _homes(store):
        current = current_of(home)
        if current is None:
            continue
        document = _document(home / current)
        cpu, gpu, cascade = document["variants"]["cpu"], document["variants"]["gpu"], document["cascade"]
        by_threads = document["profile"]["cpu"]["by_threads"]["1"]["1"]
        asked = "–" if cascade is None else f"{cascade['escalation_share']:.1%}"
        bound = (
            "–"
            if cascade is None
            else f"at most {100 * cascade['epsilon']:g} points, {1 - cascade['delta']:.0%}"
        )
        lines.append(
            f"| {document['model']} | {_metric(gpu['accuracy'])} | {_metric(cpu['accuracy'])} | "
            f"{cpu['size_bytes'] / 1000:,.0f} kB, {cpu['precision']} | {by_threads['p50']:.3f} ms | "
            f"{asked} | {bound} |"
        )
    return "\n".join(lines) + "\n"


def rewritten(page: str, content: str, mark: str = "releases") -> str:
    """`page` with what stands between `<!-- mark -->` and `<!-- /mark -->` replaced by `content`.

    Raises InvalidInput when the page has no such place.
    """
    head, begin, rest = page.partition(f"<!-- {mark} -->\n")
    _old, end, tail = rest.partition(f"<!-- /{mark} -->")
    if not begin or not end:
        raise InvalidInput("--write", page[:40], f"a page with <!-- {mark} --> and <!-- /{mark} --> in it")
    return f"{head}{begin}{content}{end}{tail}"


def _metric(value: float) -> str:
    return f"{100 * value:.2f} %"


def find(store: Path, name: str) -> Shelved:
    """The release whose id begins with `name`, or the current one of the model `name`; checked against its
    files.

    Raises InvalidInput when none or several match, ReleaseTampered when a file is not what the manifest
    states.
    """
    home = store / name
    current = current_of(home) if name and home.is_dir() else None
    found = (
        [home / current]
        if current
        else [f for h in _homes(store) for f in _releases(h) if f.name.startswith(name)]
    )
    if len(found) != 1:
        names = ", ".join(sorted(f.name for f in found)) or ", ".join(sorted(h.name for h in _homes(store)))
        what = "one of them: " if found else f"a release id or a model in {store}: "
        raise InvalidInput(
            "release", name, what + (names or "there are none yet; turnout build digits makes one")
        )
    folder = found[0]
    manifest = manifests.load(folder)
    if manifest.release != folder.name:
        raise ReleaseError(f"{folder}: its manifest is that of release {manifest.release}")
    manifests.verify(folder, manifest)
    return Shelved(folder, _document(folder))


def compared(first: Shelved, second: Shelved) -> list[Change]:
    """Every fact of two releases. Raises InvalidInput when they are of different models."""
    if first.document["model"] != second.document["model"]:
        raise InvalidInput("release", second.document["model"], f"a release of {first.document['model']}")
    left, right = dict(facts(first.document)), dict(facts(second.document))
    return [Change(what, left.get(what), right.get(what), _change(left.get(what), right.get(what)))
            for what in dict.fromkeys([*left, *right])]  # fmt: skip


def facts(document: dict[str, Any]) -> list[tuple[str, float | str | None]]:
    """What a manifest says that a reader compares."""
    cpu, gpu = document["variants"]["cpu"], document["variants"].get("gpu", {})
    profile, cascade = document["profile"], document["cascade"] or {}
    return [
        (f"cpu {document['metric']}", cpu["accuracy"]),
        (f"gpu {document['metric']}", gpu.get("accuracy")),
        ("cpu precision", cpu["precision"]),
        ("cpu size, bytes", cpu["size_bytes"]),
        ("gpu size, bytes", gpu.get("size_bytes")),
        ("cpu p50, ms", profile["cpu"]["service_ms"]["p50"]),
        ("cpu p99, ms", profile["cpu"]["service_ms"]["p99"]),
        ("cpu init, ms", profile["cpu"]["init_ms"]),
        ("memory, MB", profile["cpu"]["memory_mb"]),
        ("temperature", cpu.get("temperature")),
        ("threshold", cascade.get("threshold")),
        ("escalation share", cascade.get("escalation_share")),
        ("cascade accuracy", cascade.get("accuracy")),
        ("epsilon", cascade.get("epsilon")),
        ("onnxruntime", document["toolchain"].get("onnxruntime")),
        ("torch", document["toolchain"].get("torch")),
    ]


def current_of(home: Path) -> str | None:
    """The release that a model's `current` points at, None where there is none."""
    pointer = home / "current"
    return pointer.read_text().strip() if pointer.is_file() else None


def _homes(store: Path) -> list[Path]:
    return sorted(path for path in store.iterdir() if path.is_dir()) if store.is_dir() else []


def _releases(home: Path) -> Iterator[Path]:
    for folder in sorted(home.iterdir()):
        if not folder.name.startswith(".") and (folder / manifests.MANIFEST_NAME).is_file():
            yield folder


def _document(folder: Path) -> dict[str, Any]:
    path = folder / manifests.MANIFEST_NAME
    content = path.read_bytes()
    manifests.parse(content)
    document: dict[str, Any] = json.loads(content)
    return document


def text(value: float | str | None) -> str:
    """A value as a reader wants it."""
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _change(first: float | str | None, second: float | str | None) -> str:
    if first == second:
        return "same"
    if isinstance(first, int | float) and isinstance(second, int | float):
        ratio = f" ({second / first - 1:+.1%})" if first else ""
        return f"{second - first:+.6g}{ratio}"
    return f"{text(first)} → {text(second)}"
