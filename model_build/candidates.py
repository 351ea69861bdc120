"""From trained students to candidates: export each, quantise each in every scheme, optimise all."""

from __future__ import annotations

from dataclasses import replace

from handlers.errors import BuildError
from model_build.candidate import Candidate, Candidates, ExportResult, Graph
from model_build.export import MIN_INPUTS, export
from model_build.optimise import optimise
from model_build.quantise import quantise, schemes
from model_build.recipe import example
from model_build.sensitivity import robust_scheme
from model_build.step import Step, Work
from model_build.trained import PruneResult, load


def export_students(work: Work, pruned: PruneResult) -> ExportResult:
    """Every student that pruning kept, as float32 ONNX."""
    graphs = []
    for index, trained in enumerate(pruned.candidates):
        work.progress(index / len(pruned.candidates), trained.name)
        module = load(work.recipe, work.splits, trained)
        path = work.folder / f"{trained.name}.onnx"
        examples = example(work.splits, 2 * MIN_INPUTS)
        exported = export(module, examples, work.recipe.tensors, work.recipe.output_name, path)
        graphs.append(Graph(trained.name, trained.pruned_share, exported))
    return ExportResult(tuple(graphs))


def quantise_graphs(work: Work, exported: ExportResult) -> Candidates:
    """Each graph in float32 and in every int8 scheme that its operators allow."""
    found: list[Candidate] = []
    failed: list[str] = []
    for graph in exported.graphs:
        base = graph.exported
        share = graph.pruned_share
        found.append(
            Candidate(f"{graph.network}/fp32", graph.network, "fp32", "float32", "fp32", share, base.path,
                      base.size_bytes, {})
        )  # fmt: skip
        tried = list(schemes(base.path))
        robust = robust_scheme(base.path, work.splits.calibration.tensors, work.folder)
        if robust is not None:
            tried.append(robust)
        for scheme in tried:
            name = f"{graph.network}/{scheme.name}"
            work.progress(len(found) / (5 * len(exported.graphs)), name)
            path = work.folder / f"{graph.network}-{scheme.name}.onnx"
            try:
                done = quantise(base.path, scheme, work.splits.calibration.tensors, path)
            except BuildError as error:
                failed.append(f"{name}: {error}")
                continue
            found.append(
                Candidate(name, graph.network, scheme.name, scheme.words, "int8", share, done.path,
                          done.size_bytes, done.operators)
            )  # fmt: skip
    return Candidates(tuple(found), tuple(failed))


def optimise_candidates(work: Work, quantised: Candidates) -> Candidates:
    """Every candidate fused to the portable level."""
    found = []
    for index, candidate in enumerate(quantised.candidates):
        work.progress(index / len(quantised.candidates), candidate.name)
        done = optimise(candidate.path, work.folder / f"{candidate.name.replace('/', '-')}.onnx")
        found.append(replace(candidate, path=done.path, size_bytes=done.size_bytes))
    return Candidates(tuple(found), quantised.failed)


EXPORT = Step("export", export_students, needs=("prune",), reads=("student", "tensors", "task"))
QUANTISE = Step("quantise", quantise_graphs, needs=("export",), reads=())
OPTIMISE = Step("optimise", optimise_candidates, needs=("quantise",), reads=())
