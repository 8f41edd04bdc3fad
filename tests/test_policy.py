"""What the house rules promise, held by reading the syntax trees.

Imports run downward only; describing and computing meet in ``training`` and ``prediction`` only;
there is one door to Numba; what is optional is imported by those who need it, when they need it.
"""

from __future__ import annotations

import ast
import graphlib
import importlib
import importlib.metadata
import importlib.resources
import inspect
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import fastnn

PACKAGE = Path(fastnn.__file__).parent
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
KERNELS = {name for name in FILES if name.startswith("kernels.")}
LONGEST = 400

# Who may import whom: of the package, each room's neighbours below; an import that anybody may
# do (names, errors, kernels.codes) is listed like the others, so that this is the whole picture.
# "" is the package itself: its public names.
ALLOWED = {
    "__init__": set(),
    "__main__": {"", "backends", "demo", "machine.versions", "warming"},
    "fitting.about": {"averages", "fitting.jobs", "layout", "losses", "optimizers", "schedules"},
    "activations": {"kernels.codes", "names", "own"},
    "attribution": set(),
    "averages": {"hints", "kernels.codes", "names", "words"},
    "backends": {"names"},
    "blocks": {"hints", "names"},
    "callbacks": {"fitting.tallies", "hints", "history", "metrics", "names", "words"},
    "checkpoints": {"callbacks", "machine.system", "names", "notices"},
    "predicting.compiled": {"kernels._load", "kernels.codes", "layout", "predicting.predictor"},
    "reporting.constant": {"equations.losses", "losses", "reference"},
    "conventions": set(),
    "machine.crew": {"layout", "machine.system", "machine.threads", "tuning"},
    "reporting.cures": {"initializers", "layers", "layout"},
    "data": {"gate", "sparse"},
    "reporting.decisions": {"gate", "reporting.pictures"},
    "demo": {""},
    "derivatives": {
        "activations", "kernels._load", "kernels.codes", "layout", "machine.threads",
        "predicting.predictor",
    },
    "fitting.descent": {
        "data", "errors", "fitting.dropping", "fitting.jobs", "fitting.orders", "fitting.searching",
        "fitting.snapshots", "fitting.states", "fitting.steppers", "kernels.records", "tuning",
    },
    "reporting.description": {"kernels.codes", "kinds", "layers"},
    "reporting.diagnosis": {
        "activations", "layers", "layout", "losses", "reporting.constant", "reporting.cures",
        "reporting.drawing", "reporting.scales", "tracing",
    },
    "distances": set(),
    "differentiable": {
        "attribution", "data", "equations.curvature", "equations.walk", "gate", "layout", "losses",
        "names", "path", "paths", "sharing",
    },
    "fitting.dropping": {"history", "kinds", "layers", "layout", "names", "schedules"},
    "fitting.divergence": {
        "data", "equations.walk", "errors", "fitting.dropping", "fitting.jobs", "fitting.states",
        "fitting.steppers", "history", "kernels.codes", "layout", "sparse", "textbook",
    },
    "reporting.drawing": {"layers", "reporting.description"},
    "embeddings": {"hints", "layers", "names"},
    "fitting.epochs": {
        "callbacks", "checkpoints", "data", "errors", "fitting.about", "fitting.descent",
        "fitting.divergence", "fitting.dropping", "fitting.fitstate", "fitting.jobs",
        "fitting.measuring", "fitting.orders", "fitting.runs", "fitting.snapshots",
        "fitting.states", "history", "layout", "losses", "metrics", "path", "reporting.progress",
        "schedules", "target_scale",
    },
    "errors": set(),
    "estimators.__init__": {
        "estimators.classifier", "estimators.onnx_files", "estimators.regressor", "machine.tested",
    },
    "estimators.base": {
        "data", "estimators.elsewhere", "estimators.examples", "estimators.fitted",
        "estimators.gaps", "estimators.increment", "estimators.judge", "estimators.layered",
        "estimators.pace", "estimators.parameters", "estimators.reading", "estimators.stochastic",
        "estimators.strategies", "estimators.watchers", "estimators.weights", "fitting.jobs",
        "fitting.tallies", "fitting.validation", "gate", "hints", "notices", "paths",
        "target_scale", "words",
    },
    "estimators.blame": {"data", "estimators.judge", "network"},
    "estimators.classifier": {
        "data", "estimators.base", "estimators.conversion", "estimators.examples",
        "estimators.gaps", "estimators.increment", "estimators.judge", "estimators.layered",
        "estimators.parameters", "estimators.reading", "gate", "hints", "kernels.codes", "names",
        "network", "words",
    },
    "estimators.conversion": {
        "activations", "estimators.layered", "estimators.pace", "estimators.parameters", "layout",
        "names", "optimizers", "own",
    },
    "estimators.elsewhere": set(),
    "estimators.examples": {"data", "gate", "sparse"},
    "estimators.files": {
        "errors", "estimators.kinds", "estimators.learnt", "estimators.parameters",
        "formats.plain_values", "formats.safetensors", "names", "pickles",
    },
    "estimators.fitted": {
        "estimators.examples", "estimators.files", "estimators.layered", "estimators.onnx_files",
        "estimators.pace", "estimators.parameters", "estimators.reading", "estimators.weights",
        "network", "pickles",
    },
    "estimators.gaps": {"estimators.reading", "gate"},
    "estimators.increment": {
        "backends", "data", "estimators.examples", "estimators.judge", "estimators.ledger",
        "estimators.parameters", "estimators.watchers", "estimators.weights", "fitting.kept",
        "gate", "layout", "losses", "notices", "sharing",
    },
    "estimators.judge": {
        "activations", "conventions", "data", "estimators.examples", "fitting.tallies",
        "kernels.codes", "layout", "losses", "path", "predicting.predictor", "sharing", "sparse",
    },
    "estimators.blas": set(),
    "estimators.kinds": {
        "callbacks", "formats.plain_values", "kinds", "names", "own", "pickles", "schedules",
    },
    "estimators.learnt": {
        "activations", "estimators.kinds", "estimators.layered", "estimators.parameters", "names",
        "optimizers", "schedules",
    },
    "estimators.layered": {
        "estimators.weights", "gate", "kinds", "layers", "layout", "names", "network", "scaling",
        "stacks",
    },
    "estimators.lbfgs": {
        "data", "estimators.blame", "estimators.blas", "estimators.judge", "estimators.parameters",
        "estimators.watchers", "fitting.compiled_call", "fitting.quasi_newton", "kernels.codes",
        "network", "notices",
    },
    "estimators.ledger": {"estimators.judge", "estimators.pace", "estimators.parameters"},
    "estimators.onnx_files": {
        "exports.onnx_answers", "exports.onnx_graph", "exports.plain", "machine.system", "names",
    },
    "estimators.pace": {
        "estimators.judge", "estimators.parameters", "fitting.states", "names", "optimizers",
        "pickles", "schedules",
    },
    "estimators.parameters": {
        "activations", "callbacks", "conventions", "losses", "names", "optimizers", "own",
        "schedules", "words",
    },
    "estimators.reading": {"gate"},
    "estimators.regressor": {
        "data", "estimators.base", "estimators.conversion", "estimators.examples",
        "estimators.gaps", "estimators.increment", "estimators.judge", "estimators.parameters",
        "estimators.reading", "gate", "hints", "kernels.codes", "metrics", "words",
    },
    "estimators.stochastic": {
        "data", "errors", "estimators.blame", "estimators.judge", "estimators.ledger",
        "estimators.pace", "estimators.parameters", "estimators.watchers", "fitting.descent",
        "fitting.dropping", "fitting.jobs", "fitting.orders", "fitting.snapshots", "notices",
    },
    "estimators.strategies": {
        "data", "estimators.judge", "estimators.lbfgs", "estimators.parameters",
        "estimators.watchers",
    },
    "estimators.watchers": {
        "callbacks", "checkpoints", "fitting.epochs", "history", "network", "reporting.progress",
    },
    "estimators.weights": {"activations", "gate", "layers", "layout", "names", "network", "own"},
    "exports.__init__": set(),
    "exports.c_program": {"exports.parts", "exports.plain", "kernels.codes", "kinds"},
    "exports.c_source": {"exports.c_program", "exports.c_texts", "exports.plain", "names"},
    "exports.c_texts": set(),
    "exports.onnx_answers": {"exports.onnx_graph", "exports.plain", "names"},
    "exports.keras_in": {
        "exports.keras_names", "exports.made", "layers", "names", "network", "norms", "scaling",
        "slopes",
    },
    "exports.keras_names": set(),
    "exports.keras_out": {
        "exports.keras_names", "exports.parts", "exports.plain", "layers", "norms", "slopes",
    },
    "exports.made": {"layers", "network"},
    "exports.onnx_graph": {"exports.parts", "exports.plain"},
    "exports.onnx_in": {
        "errors", "exports.made", "exports.onnx_match", "exports.onnx_parts",
        "formats.safetensors", "labels", "layers", "machine.system", "names", "network", "residual",
        "slopes",
    },
    "exports.onnx_match": {"exports.onnx_graph"},
    "exports.onnx_out": {"exports.onnx_answers", "exports.onnx_graph", "exports.plain", "labels"},
    "exports.onnx_parts": {
        "exports.made", "exports.parts", "layers", "norms", "periodic", "scaling", "slopes",
    },
    "exports.parts": {
        "kinds", "layers", "layout", "norms", "periodic", "reference", "residual", "scaling",
        "target_scale",
    },
    "exports.plain": {"embeddings", "exports.parts", "layout", "own", "target_scale"},
    "exports.python_source": {"exports.parts", "exports.plain", "norms", "periodic"},
    "exports.torch_in": {
        "activations", "exports.made", "exports.torch_modules", "layers", "names", "network",
    },
    "exports.torch_modules": {
        "embeddings", "exports.made", "layers", "norms", "periodic", "residual", "scaling",
        "slopes",
    },
    "exports.torch_out": {
        "exports.parts", "exports.plain", "layers", "norms", "periodic", "slopes",
    },
    "fitting.feeds": {"blocks", "data", "gate", "names", "scaling", "sparse", "target_scale"},
    "fitting.fitstate": {
        "callbacks", "errors", "fitting.about", "fitting.jobs", "fitting.runs", "fitting.states",
        "formats.plain_values", "history", "names", "optimizers", "target_scale",
    },
    "predicting.folded": {
        "kernels._load", "layout", "predicting.folding", "predicting.leading",
        "predicting.predictor", "sparse",
    },
    "predicting.folding": {"kernels.codes", "layout", "scaling"},
    "formats.__init__": set(),
    "equations.__init__": set(),
    "predicting.__init__": set(),
    "fitting.__init__": set(),
    "machine.__init__": set(),
    "reporting.__init__": set(),
    "formats.plain_pickle": {"names"},
    "formats.plain_values": {"names"},
    "formats.safetensors": {"errors", "machine.system", "names"},
    "formats.torch_files": {
        "errors", "formats.plain_pickle", "formats.safetensors", "machine.system", "names",
    },
    "gate": {"blocks", "names", "sparse", "tuning"},
    "gradient_check": {"losses", "names"},
    "hints": {"names"},
    "history": {"reporting.progress"},
    "initializers": {"names"},
    "fitting.jobs": {
        "averages", "conventions", "data", "fitting.feeds", "fitting.states", "fitting.tallies",
        "layout", "losses", "metrics", "path", "predicting.predictor", "schedules", "sharing",
        "sparse", "target_scale", "whole_batch",
    },
    "labels": {"names"},
    "layers": {"activations", "hints", "initializers", "names", "own", "schedules", "words"},
    "layout": {
        "activations", "kernels.codes", "kernels.records", "kinds", "layers", "losses",
        "machine.system", "target_scale", "tuning",
    },
    "predicting.leading": {
        "embeddings", "gate", "kernels._load", "kernels.codes", "layout", "predicting.predictor",
        "sparse",
    },
    "fitting.least_squares": {
        "data", "derivatives", "equations.derivatives", "equations.walk", "kernels.codes", "layers",
        "layout", "losses", "predicting.walking", "sparse", "whole_batch",
    },
    "losses": {"activations", "hints", "kernels.codes", "names", "own", "words"},
    "fitting.measuring": {
        "data", "kernels.codes", "layout", "losses", "metrics", "path", "reference", "target_scale",
    },
    "metrics": {"confusion", "distances", "hints", "kernels.codes", "names", "rankings", "words"},
    "names": set(),
    "native": {
        "conventions", "data", "derivatives", "equations.walk", "fitting.jobs",
        "fitting.least_squares", "fitting.quasi_newton", "fitting.runs", "fitting.steppers",
        "kernels._load", "kernels.codes", "layout", "losses", "path", "predicting.predictor",
        "predicting.walking", "sparse", "textbook", "tracing",
    },
    "network": {
        "averages", "backends", "blocks", "callbacks", "checkpoints", "data", "differentiable",
        "errors", "fitting.epochs",
        "fitting.feeds", "fitting.fitstate", "fitting.jobs", "fitting.kept", "fitting.measuring",
        "fitting.settings", "fitting.splitting", "fitting.states", "fitting.validation",
        "formats.safetensors", "gate", "hints", "history", "initializers", "kernels.codes", "kinds",
        "labels", "layers", "layout", "losses", "machine.system", "metrics", "names", "notices",
        "optimizers", "path", "paths", "pickles", "predicting.compiled", "predicting.folded",
        "predicting.folding", "predicting.frozen", "predicting.predictor", "predicting.sampling",
        "predicting.walking", "reporting.decisions", "reporting.description", "reporting.diagnosis",
        "reporting.drawing", "reporting.scales", "schedules", "sharing", "sparse", "stacks",
        "target_scale", "tracing", "training", "words",
    },
    "norms": {"hints", "layers", "names"},
    "notices": set(),
    "optimizers": {"hints", "kernels.codes", "kernels.records", "names", "whole_batch", "words"},
    "fitting.orders": {"data", "fitting.jobs", "fitting.states"},
    "paths": {"backends", "native", "path", "textbook"},
    "own": {"names"},
    "path": {"conventions", "data", "layout", "losses", "sparse", "tracing"},
    "periodic": {"hints", "layers", "names"},
    "pickles": {
        "callbacks", "errors", "fitting.states", "history", "kinds", "losses", "names",
        "optimizers", "own", "schedules",
    },
    "reporting.pictures": set(),
    "predicting.frozen": {
        "backends", "gate", "layout", "names", "paths", "predicting.folded", "predicting.folding",
        "predicting.halves", "predicting.predictor", "predicting.walking",
    },
    "predicting.halves": {
        "kernels._load", "kernels.codes", "layout", "predicting.leading", "predicting.predictor",
    },
    "predicting.predictor": {
        "activations", "kernels._load", "kernels.codes", "layout", "machine.crew",
        "machine.threads", "predicting.ways", "sparse", "tuning",
    },
    "predicting.ways": set(),
    "machine.private": {"machine.system"},
    "reporting.progress": {"names"},
    "rankings": {"distances"},
    "fitting.quasi_newton": {
        "equations.search", "kernels._load", "kernels.codes", "kernels.records", "layout",
    },
    "reference": {"equations.losses", "equations.optimizers", "equations.tables"},
    "equations.derivatives": {"equations.walk", "layout"},
    "equations.curvature": {"equations.tables", "equations.walk", "layout", "losses", "reference"},
    "equations.draws": set(),
    "equations.embeddings": {"equations.kinds", "equations.tables"},
    "equations.kinds": {"equations.tables", "reference"},
    "equations.losses": {"equations.tables"},
    "equations.norms": {"equations.kinds", "equations.tables"},
    "equations.optimizers": {"equations.tables"},
    "equations.periodic": {"equations.kinds", "equations.tables"},
    "equations.scaling": {"equations.kinds", "equations.tables"},
    "equations.search": {"kernels.codes"},
    "equations.slopes": {"equations.kinds"},
    "equations.walk": {
        "equations.losses", "equations.optimizers", "kernels.codes", "layout", "losses",
        "reference",
    },
    "residual": {"hints", "layers", "names"},
    "equations.tables": set(),
    "fitting.runs": {
        "conventions", "data", "fitting.tallies", "kernels.codes", "kernels.records", "kinds",
        "layout", "losses", "machine.system", "machine.threads", "predicting.predictor", "sparse",
        "tuning",
    },
    "predicting.sampling": {"layout", "path", "sparse"},
    "reporting.scales": {"sparse"},
    "rates": {"errors", "gate", "losses", "names", "network", "optimizers"},
    "scaling": {"hints", "layers"},
    "schedules": {"hints", "metrics", "names", "words"},
    "fitting.searching": {
        "data", "errors", "fitting.dropping", "fitting.jobs", "fitting.least_squares",
        "fitting.steppers", "kernels.codes", "kernels.records", "layout", "losses", "path",
        "whole_batch",
    },
    "fitting.settings": {
        "averages", "callbacks", "checkpoints", "data", "fitting.feeds", "fitting.jobs",
        "fitting.searching", "fitting.states", "kinds", "layers", "layout", "losses", "metrics",
        "names", "optimizers", "path", "paths", "schedules", "sharing", "target_scale",
        "whole_batch",
    },
    "sharing": set(),
    "slopes": {"hints", "layers", "names"},
    "fitting.snapshots": {"fitting.jobs", "fitting.states", "fitting.steppers", "kernels.records"},
    "sparse": set(),
    "fitting.splitting": {"data", "fitting.states", "gate", "losses", "path"},
    "fitting.steppers": {
        "data", "equations.draws", "equations.walk", "fitting.dropping", "fitting.jobs",
        "fitting.runs", "fitting.tallies", "kernels.codes", "kernels.records", "layers", "layout",
        "optimizers", "reference",
    },
    "stacks": {"embeddings", "kinds", "layers", "names", "periodic"},
    "fitting.states": {"kernels.records", "optimizers"},
    "fitting.compiled_call": {
        "data", "fitting.runs", "kernels.codes", "layout", "losses", "path", "predicting.predictor",
        "sparse",
    },
    "confusion": {"distances"},
    "fitting.updates": {
        "data", "fitting.runs", "fitting.states", "kernels.codes", "kernels.records", "layout",
        "losses", "optimizers", "predicting.predictor",
    },
    "fitting.kept": {
        "data", "fitting.compiled_call", "fitting.runs", "fitting.states", "fitting.updates",
        "gate", "kernels.codes", "kernels.records", "layout", "losses", "names", "optimizers",
        "path", "tuning",
    },
    "kinds": {
        "activations", "embeddings", "equations.embeddings", "equations.kinds", "equations.norms",
        "equations.periodic", "equations.scaling", "equations.slopes", "kernels.codes", "layers",
        "names", "norms", "own", "periodic", "residual", "scaling", "schedules", "slopes",
    },
    "machine.leftovers": set(),
    "loggers": {"callbacks", "names", "notices"},
    "limits": {"callbacks", "hints", "names", "words"},
    "machine.system": {"machine.leftovers", "names"},
    "target_scale": {
        "data", "errors", "gate", "losses", "names", "notices", "reference", "scaling",
    },
    "machine.tested": {"notices"},
    "textbook": {
        "conventions", "data", "equations.derivatives", "equations.draws", "equations.search",
        "equations.walk", "fitting.jobs", "fitting.least_squares", "fitting.quasi_newton",
        "fitting.runs", "fitting.steppers", "gate", "kernels.codes", "layout", "losses", "path",
        "predicting.predictor", "sparse", "tracing",
    },
    "machine.threads": {"machine.system", "names", "tuning"},
    "tracing": set(),
    "training": {
        "callbacks", "errors", "fitting.descent", "fitting.divergence", "fitting.dropping",
        "fitting.epochs", "fitting.fitstate", "fitting.jobs", "fitting.orders", "fitting.snapshots",
        "fitting.states", "fitting.steppers", "history", "kernels.records", "notices",
        "reporting.progress",
    },
    "fitting.tallies": {
        "activations", "data", "distances", "kernels.codes", "kernels.records", "layout", "losses",
        "metrics", "target_scale",
    },
    "tuning": set(),
    "machine.uninterrupted": {"tuning"},
    "fitting.validation": {"blocks", "data", "errors", "names", "notices"},
    "machine.versions": {"", "backends", "machine.system"},
    "predicting.walking": {
        "data", "fitting.runs", "kernels.codes", "layout", "predicting.folded",
        "predicting.folding", "predicting.leading", "predicting.predictor", "sparse", "tuning",
    },
    "warming": {"layers", "names", "network", "norms", "scaling"},
    "whole_batch": {"names"},
    "words": set(),
    "kernels.__init__": set(),
    "kernels._cache": {"machine.private", "machine.system", "notices", "tuning"},
    "kernels._jit": {"kernels._cache", "machine.tested", "machine.uninterrupted", "notices"},
    "kernels._load": {"machine.tested", "machine.uninterrupted"},
    "kernels._own": {"kernels._jit", "kernels.simd", "kernels.vector_math"},
    "kernels._parts": {"machine.uninterrupted"},
    "kernels.answers": {
        "kernels._jit", "kernels.blocks", "kernels.codes", "kernels.crew", "kernels.elementwise",
        "kernels.halves", "kernels.narrow", "kernels.panels", "kernels.scaling", "kernels.single",
        "kernels.subnormals", "kernels.views",
    },
    "kernels.averages": {"kernels._jit", "kernels.codes", "kernels.panels", "kernels.simd"},
    "kernels.batch_norm": {"kernels._jit", "kernels.columns", "kernels.panels"},
    "kernels.blocks": {
        "kernels._jit", "kernels.codes", "kernels.micro_kernels", "kernels.panels", "kernels.simd",
    },
    "kernels.chunk": {
        "kernels._jit", "kernels.entries", "kernels.output", "kernels.panels", "kernels.views",
    },
    "kernels.codes": set(),
    "kernels.columns": {"kernels._jit", "kernels.panels", "kernels.simd"},
    "kernels.counts": {"kernels._jit", "kernels.codes", "kernels.micro_kernels"},
    "kernels.cores": {
        "kernels._jit", "kernels.parking", "kernels.simd", "kernels.team", "machine.system",
    },
    "kernels.crew": {
        "kernels._jit", "kernels.codes", "kernels.cores", "kernels.parking", "kernels.team",
        "kernels.views",
    },
    "kernels.measures": {
        "kernels._jit", "kernels.chunk", "kernels.codes", "kernels.counts", "kernels.elementwise",
        "kernels.figures", "kernels.micro_kernels", "kernels.panels", "kernels.passes",
        "kernels.team", "kernels.views",
    },
    "kernels.curves": {"kernels.codes", "kernels.fits", "kernels.simd", "kernels.vector_math"},
    "kernels.dense": {
        "kernels._jit", "kernels.codes", "kernels.elementwise", "kernels.matmul",
        "kernels.micro_kernels", "kernels.narrow", "kernels.panels", "kernels.sparse_products",
        "kernels.tiles", "kernels.views",
    },
    "kernels.derivatives": {
        "kernels._jit", "kernels.blocks", "kernels.codes", "kernels.elementwise", "kernels.panels",
        "kernels.simd", "kernels.subnormals", "kernels.team", "kernels.views",
    },
    "kernels.dropout": {"kernels._jit", "kernels.order", "kernels.panels", "kernels.simd"},
    "kernels.elementwise": {
        "kernels._jit", "kernels.codes", "kernels.curves", "kernels.increments",
        "kernels.own_functions", "kernels.rows", "kernels.simd", "kernels.vector_math",
    },
    "kernels.embedded": {
        "kernels._cache", "kernels._jit", "kernels.answers", "kernels.codes", "kernels.elementwise",
        "kernels.frames", "kernels.narrow", "kernels.single", "kernels.subnormals", "kernels.views",
    },
    "kernels.entries": {
        "kernels._jit", "kernels.codes", "kernels.order", "kernels.panels",
        "kernels.sparse_products",
    },
    "kernels.norms": {"kernels._jit", "kernels.codes", "kernels.panels", "kernels.simd"},
    "kernels.once": {"kernels._jit", "kernels.codes", "kernels.epoch", "kernels.views"},
    "kernels.epoch": {
        "kernels._jit", "kernels.averages", "kernels.batch_norm", "kernels.chunk", "kernels.codes",
        "kernels.measures", "kernels.narrow", "kernels.order", "kernels.panels",
        "kernels.projections", "kernels.rules", "kernels.steps", "kernels.subnormals",
        "kernels.team", "kernels.tiles", "kernels.views",
    },
    "kernels.figures": {"kernels._jit", "kernels.codes"},
    "kernels.first_layer": {
        "kernels._jit", "kernels.codes", "kernels.elementwise", "kernels.panels",
        "kernels.sparse_products", "kernels.subnormals", "kernels.views",
    },
    "kernels.fits": set(),
    "kernels.folds": {"kernels._jit", "kernels.codes", "kernels.views"},
    "kernels.frames": {"kernels._jit"},
    "kernels.gathers": {"kernels._jit", "kernels.codes", "kernels.panels", "kernels.simd"},
    "kernels.half_answers": {
        "kernels._jit", "kernels.answers", "kernels.codes", "kernels.crew", "kernels.subnormals",
        "kernels.views",
    },
    "kernels.halves": {
        "kernels._jit", "kernels.blocks", "kernels.codes", "kernels.panels", "kernels.simd",
    },
    "kernels.increments": {"kernels.rows", "kernels.simd", "kernels.vector_math"},
    "kernels.line_search": {"kernels._jit"},
    "kernels.matmul": {"kernels._jit", "kernels.micro_kernels", "kernels.panels", "kernels.simd"},
    "kernels.micro_kernels": {"kernels._jit", "kernels.panels", "kernels.simd"},
    "kernels.narrow": {
        "kernels._jit", "kernels.codes", "kernels.micro_kernels", "kernels.panels", "kernels.simd",
    },
    "kernels.normal_equations": {
        "kernels._jit", "kernels.blocks", "kernels.codes", "kernels.panels",
    },
    "kernels.order": {"kernels._jit"},
    "kernels.output": {
        "kernels._jit", "kernels.codes", "kernels.increments", "kernels.own_functions",
        "kernels.pointwise", "kernels.quantiles", "kernels.records", "kernels.rows", "kernels.simd",
        "kernels.vector_math",
    },
    "kernels.own_functions": {"kernels._jit", "kernels.codes", "kernels.simd"},
    "kernels.panels": {"kernels._jit", "kernels.simd"},
    "kernels.passes": {
        "kernels._jit", "kernels.batch_norm", "kernels.codes", "kernels.dense", "kernels.dropout",
        "kernels.elementwise", "kernels.entries", "kernels.gathers", "kernels.norms",
        "kernels.prelu", "kernels.scaling", "kernels.sums", "kernels.waves",
    },
    "kernels.phases": {
        "kernels._jit", "kernels.batch_norm", "kernels.chunk", "kernels.codes", "kernels.measures",
        "kernels.passes", "kernels.team",
    },
    "kernels.pointwise": {"kernels.codes", "kernels.simd", "kernels.vector_math"},
    "kernels.projections": {
        "kernels._jit", "kernels.codes", "kernels.micro_kernels", "kernels.panels", "kernels.simd",
        "kernels.team", "kernels.tiles", "kernels.update",
    },
    "kernels.prelu": {"kernels._jit", "kernels.panels", "kernels.simd"},
    "kernels.quantiles": {
        "kernels.increments", "kernels.rows", "kernels.simd", "kernels.vector_math",
    },
    "kernels.quasi_newton": {
        "kernels._jit", "kernels.codes", "kernels.line_search", "kernels.vectors",
    },
    "kernels.records": {"kernels.codes"},
    "kernels.rows": {"kernels.simd", "kernels.turning"},
    "kernels.rules": {"kernels._jit", "kernels.codes", "kernels.simd", "kernels.vector_math"},
    "kernels.scaling": {"kernels._jit", "kernels.panels", "kernels.simd", "kernels.subnormals"},
    "kernels.simd": set(),
    "kernels.single": {"kernels._jit", "kernels.simd"},
    "kernels.spans": {
        "kernels._jit", "kernels.batch_norm", "kernels.codes", "kernels.gathers", "kernels.norms",
        "kernels.panels", "kernels.prelu", "kernels.sparse_products", "kernels.update",
        "kernels.waves",
    },
    "kernels.sparse_products": {
        "kernels._jit", "kernels.codes", "kernels.micro_kernels", "kernels.panels", "kernels.simd",
    },
    "kernels.steps": {
        "kernels._jit", "kernels.chunk", "kernels.codes", "kernels.measures",
        "kernels.micro_kernels", "kernels.panels", "kernels.passes", "kernels.phases",
        "kernels.spans", "kernels.team", "kernels.tiles",
    },
    "kernels.subnormals": {"kernels._jit", "kernels.simd"},
    "kernels.sums": {"kernels._jit", "kernels.codes", "kernels.panels", "kernels.simd"},
    "kernels.parking": {"kernels._jit", "kernels.simd", "machine.system"},
    "kernels.team": {"kernels._jit", "kernels.parking", "kernels.simd"},
    "kernels.tiles": {
        "kernels._jit", "kernels.averages", "kernels.codes", "kernels.entries", "kernels.matmul",
        "kernels.micro_kernels", "kernels.narrow", "kernels.panels", "kernels.sparse_products",
        "kernels.update",
    },
    "kernels.turning": {"kernels.simd"},
    "kernels.update": {
        "kernels._jit", "kernels.codes", "kernels.rules", "kernels.simd", "kernels.vector_math",
    },
    "kernels.thunks": set(),
    "kernels.vector_math": {"kernels.fits", "kernels.simd"},
    "kernels.vectors": {"kernels._jit", "kernels.simd"},
    "kernels.views": {"kernels._jit"},
    "kernels.waves": {
        "kernels._jit", "kernels.codes", "kernels.gathers", "kernels.panels", "kernels.simd",
        "kernels.vector_math",
    },
}  # fmt: skip

# Imports inside functions, which keep the compiler, and ways out, unloaded until they are used.
LAZY = {
    "__init__": {"hints", "machine.uninterrupted", "words"},
    "predicting.compiled": {"kernels.embedded", "kernels.thunks"},
    "machine.crew": {"kernels.cores", "kernels.crew"},
    "derivatives": {"kernels.derivatives"},
    "kernels._jit": {"kernels._parts"},
    "kernels._load": {
        "kernels.answers", "kernels.crew", "kernels.derivatives", "kernels.embedded",
        "kernels.epoch", "kernels.first_layer", "kernels.folds", "kernels.half_answers",
        "kernels.normal_equations", "kernels.once", "kernels.order", "kernels.quasi_newton",
        "kernels.team", "kernels.thunks",
    },
    "predicting.folded": {"kernels.folds"},
    "predicting.halves": {"kernels.half_answers"},
    "predicting.leading": {"kernels.gathers", "kernels.scaling"},
    "fitting.least_squares": {"kernels.normal_equations"},
    "estimators.onnx_files": {"exports.onnx_out"},
    "history": {"reporting.drawing", "reporting.pictures"},
    "native": {"kernels.order", "kernels.scaling"},
    "network": {
        "exports.c_source", "exports.keras_out", "exports.onnx_out", "exports.plain",
        "exports.python_source", "exports.torch_out",
    },
    "own": {"kernels.own_functions", "reference"},
    "pickles": {""},
    "predicting.predictor": {
        "kernels.answers", "kernels.first_layer", "kernels.micro_kernels", "kernels.panels",
        "kernels.scaling",
    },
    "fitting.runs": {"kernels.epoch", "kernels.once", "kernels.team"},
    "fitting.quasi_newton": {"kernels.quasi_newton"},
    "machine.versions": {"kernels._cache"},
    "predicting.walking": {"kernels.scaling"},
    "kernels.own_functions": {"kernels._own"},
}  # fmt: skip

# The rooms where describing and computing meet; the door to the compiler; and what writes
# instructions itself and so needs the compiler's types, but neither compiles nor sets flags.
MEETING = {
    "derivatives", "fitting.least_squares", "fitting.quasi_newton", "fitting.runs", "machine.crew",
    "native", "own", "predicting.compiled", "predicting.folded", "predicting.halves",
    "predicting.leading", "predicting.predictor", "predicting.walking",
}  # fmt: skip
DOOR = {
    "kernels._cache", "kernels._jit", "kernels._load", "kernels._own", "kernels._parts",
}  # fmt: skip
GENERATORS = {
    "kernels._parts", "kernels.averages", "kernels.blocks", "kernels.cores", "kernels.crew",
    "kernels.derivatives", "kernels.dropout",
    "kernels.columns", "kernels.gathers", "kernels.sparse_products", "kernels.elementwise",
    "kernels.embedded",
    "kernels.frames", "kernels.halves",
    "kernels.matmul",
    "kernels.micro_kernels", "kernels.narrow", "kernels.norms", "kernels.prelu",
    "kernels.output", "kernels.own_functions", "kernels.panels", "kernels.parking",
    "kernels.projections",
    "kernels.once", "kernels.rows", "kernels.scaling", "kernels.turning",
    "kernels.simd", "kernels.single", "kernels.subnormals", "kernels.team", "kernels.thunks",
    "kernels.update", "kernels.vectors", "kernels.views", "kernels.waves",
    "kernels.sums",
}  # fmt: skip
GENERATORS_NEED = {"llvmlite", "numba.core", "numba.np"}

# The rooms of the extra "sklearn", which nothing else imports.
ESTIMATORS = {name for name in FILES if name.startswith("estimators.")}

# Packages that are not Python's own, at the top of a file and inside functions.
NUMPY_FREE = {
    "__init__",
    "__main__",
    "activations",
    "backends",
    "errors",
    "losses",
    "notices",
    "machine.system",
    "machine.threads",
    "tuning",
    "machine.uninterrupted",
}
# What is loaded on demand, with the package that it is for.
ON_DEMAND = {
    "exports.keras_out": {"keras"}, "exports.onnx_out": {"onnx"}, "exports.torch_out": {"torch"},
}  # fmt: skip
LAZY_OUTSIDE = {
    "demo": {"matplotlib", "sklearn", "threadpoolctl"},
    "estimators.onnx_files": {"onnx", "skl2onnx"},
    "exports.onnx_in": {"google", "onnx"},
    "history": {"pandas"},
    "kernels._cache": {"llvmlite", "numba"},
    "kernels._load": {"numba", "numpy"},
    "loggers": {"mlflow", "tensorboard"},
    "reporting.pictures": {"matplotlib"},
    "rates": {"matplotlib"},
}

PRODUCTS = {"dot", "vdot", "inner", "outer", "matmul", "tensordot", "einsum", "linalg"}
COMPILING = {
    "njit", "jit", "generated_jit", "vectorize", "guvectorize", "cfunc", "stencil", "jitclass",
    "fastmath", "overload", "register_jitable",
}  # fmt: skip


@dataclass(frozen=True)
class Import:
    """One imported module, and whether a function or only a type checker imports it."""

    module: str
    lazy: bool = False
    typing: bool = False


def imports_of(source: str, package: str = "fastnn") -> set[Import]:
    """Return every module that a file imports, wherever in it."""
    found = set()

    def visit(node: ast.AST, lazy: bool, typing: bool) -> None:
        if isinstance(node, ast.Import):
            found.update(Import(alias.name, lazy, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module]))
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                inside = whole.removeprefix("fastnn.")
                module = inside in FILES or f"{inside}.__init__" in FILES
                found.add(Import(whole if module else base, lazy, typing))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            lazy = True
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                visit(child, lazy, True)
            for child in node.orelse:
                visit(child, lazy, typing)
            return
        for child in ast.iter_child_nodes(node):
            visit(child, lazy, typing)

    visit(ast.parse(source), False, False)
    return found


def rooms_of(imports: set[Import], *, lazy: bool) -> set[str]:
    """Return the rooms of the package among imports that are (or are not) inside functions."""
    return {
        found.module.removeprefix("fastnn").removeprefix(".")
        for found in imports
        if found.lazy == lazy and not found.typing and found.module.split(".")[0] == "fastnn"
    }


def strangers_of(imports: set[Import], *, lazy: bool) -> set[str]:
    """Return the modules from outside that are not part of Python."""
    return {
        found.module
        for found in imports
        if found.lazy == lazy
        and not found.typing
        and found.module.split(".")[0] not in {*sys.stdlib_module_names, "fastnn"}
    }


def tree_of(name: str) -> ast.Module:
    """Return the syntax tree of one of the package's files."""
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


IMPORTS = {name: imports_of(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def test_every_room_stands_in_the_table():
    assert set(ALLOWED) == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_room_imports_only_those_below(name):
    assert rooms_of(IMPORTS[name], lazy=False) <= ALLOWED[name]
    assert rooms_of(IMPORTS[name], lazy=True) <= LAZY.get(name, set())


def test_no_permission_is_left_unused():
    for name in FILES:
        assert rooms_of(IMPORTS[name], lazy=False) == ALLOWED[name], name
        assert rooms_of(IMPORTS[name], lazy=True) == LAZY.get(name, set()), name


def test_imports_run_downward():
    rooms = {name: ALLOWED[name] | LAZY.get(name, set()) for name in ALLOWED}
    # Raises a CycleError, which names the circle.
    graphlib.TopologicalSorter(rooms).prepare()


def test_describing_and_computing_meet_in_few_rooms_only():
    engine = KERNELS - {
        "kernels.codes", "kernels.records", "kernels._cache", "kernels.__init__",
    }  # fmt: skip
    meeting = {
        name for name in set(FILES) - KERNELS if (ALLOWED[name] | LAZY.get(name, set())) & engine
    }
    assert meeting == MEETING
    for name in MEETING | KERNELS:
        assert not reached_from(name) & {"", "network"}, name


def test_only_the_estimators_know_of_estimators():
    for name in set(FILES) - ESTIMATORS:
        assert not (ALLOWED[name] | LAZY.get(name, set())) & ESTIMATORS, name


def test_kernels_know_no_description():
    for name in KERNELS:
        assert ALLOWED[name] <= KERNELS | {
            "notices",
            "machine.private",
            "machine.system",
            "machine.tested",
            "tuning",
            "machine.uninterrupted",
        }, name


def test_what_python_calls_of_the_kernels_is_loaded_in_one_piece():
    loaded = reached_from("kernels._load")
    for name in set(FILES) - KERNELS:
        called = {room for room in LAZY.get(name, set()) if room in KERNELS}
        assert called - {"kernels._cache"} <= loaded, name


def reached_from(name: str) -> set[str]:
    """Return every room that a room imports, directly or through others."""
    reached: set[str] = set()
    ahead = [name]
    while ahead:
        room = ahead.pop()
        new = (ALLOWED.get(room, set()) | LAZY.get(room, set())) - reached
        reached |= new
        ahead += new
    return reached


@pytest.mark.parametrize("name", FILES)
def test_a_room_needs_numpy_at_most(name):
    eager = {module.split(".")[0] for module in strangers_of(IMPORTS[name], lazy=False)}
    if name in DOOR | GENERATORS:
        eager -= {"numba", "llvmlite"}
    if name in ESTIMATORS:
        # What scikit-learn brings too.
        eager -= {"scipy", "sklearn", "threadpoolctl"}
    eager -= ON_DEMAND.get(name, set())
    assert eager <= (set() if name in NUMPY_FREE else {"numpy"})
    lazy = {module.split(".")[0] for module in strangers_of(IMPORTS[name], lazy=True)}
    assert lazy <= LAZY_OUTSIDE.get(name, set())


def test_there_is_one_door_to_numba():
    for name, imports in IMPORTS.items():
        every = strangers_of(imports, lazy=False) | strangers_of(imports, lazy=True)
        numba = {module for module in every if module.split(".")[0] in {"numba", "llvmlite"}}
        if name in GENERATORS:
            assert all(
                any(f"{module}.".startswith(f"{part}.") for part in GENERATORS_NEED)
                for module in numba
            ), name
        elif name not in DOOR:
            assert not numba, name


@pytest.mark.parametrize("name", sorted(set(FILES) - {"kernels._jit"}))
def test_nobody_else_compiles_or_sets_flags(name):
    tree = tree_of(name)
    # What typing calls an overload compiles nothing.
    typed = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "typing"
        for alias in node.names
    }
    assert not (names_in(tree) - typed) & COMPILING


@pytest.mark.parametrize("name", sorted(KERNELS))
def test_kernels_do_their_own_products(name):
    assert not products_in(tree_of(name))


def products_in(tree: ast.AST) -> set[str]:
    """Return the matrix products that a tree leaves to NumPy, and so to SciPy's BLAS."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.MatMult):
            found.add("@")
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and node.module == "numpy":
            found.update(alias.name for alias in node.names)
    return found & {*PRODUCTS, "@"}


def names_in(tree: ast.AST) -> set[str]:
    """Return every name, attribute, keyword and dictionary key that a tree uses."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.keyword) and node.arg is not None:
            found.add(node.arg)
        elif isinstance(node, ast.alias):
            found.update(node.name.split("."))
        elif isinstance(node, ast.Dict):
            found |= {
                key.value
                for key in node.keys
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
    return found


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import fastnn.network", Import("fastnn.network")),
        ("import fastnn as fn", Import("fastnn")),
        ("from fastnn import network as n", Import("fastnn.network")),
        ("from fastnn import Sequential", Import("fastnn")),
        ("from fastnn.formats import safetensors", Import("fastnn.formats.safetensors")),
        ("from fastnn.network import Sequential", Import("fastnn.network")),
        ("from .network import Sequential", Import("fastnn.network")),
        ("from . import network", Import("fastnn.network")),
        ("def f():\n    import numba", Import("numba", lazy=True)),
        ("class A:\n    def f(self):\n        import numba", Import("numba", lazy=True)),
        ("try:\n    import numba\nexcept ImportError:\n    pass", Import("numba")),
        ("if TYPE_CHECKING:\n    import numba", Import("numba", typing=True)),
        ("if TYPE_CHECKING:\n    pass\nelse:\n    import numba", Import("numba")),
    ],
)
def test_imports_are_found_wherever_they_stand(source, expected):
    assert imports_of(source) == {expected}


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("@njit\ndef f(): pass", "njit"),
        ("numba.njit(f)", "njit"),
        ("kernel(f, fastmath=True)", "fastmath"),
        ("flags = {'fastmath': True}", "fastmath"),
        ("from numba import njit", "njit"),
    ],
)
def test_names_are_found_wherever_they_stand(source, word):
    assert word in names_in(ast.parse(source))


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("C = A @ B", "@"),
        ("C @= B", "@"),
        ("a.dot(b)", "dot"),
        ("np.linalg.norm(a)", "linalg"),
        ("from numpy import dot", "dot"),
    ],
)
def test_products_are_found_wherever_they_stand(source, word):
    assert products_in(ast.parse(source)) == {word}


PRIVATE_CONSTANT = re.compile(r"(?<!\w)_[A-Z][A-Z0-9_]*$")


def constants_in(tree: ast.Module) -> set[str]:
    """Return the private constants that a module sets."""
    return {
        name.id
        for node in tree.body
        if isinstance(node, (ast.Assign, ast.AnnAssign))
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for name in ast.walk(target)
        if isinstance(name, ast.Name) and PRIVATE_CONSTANT.match(name.id)
    }


def constants_exchanged_in(source: str, constants: set[str]) -> set[str]:
    """Return the constants that a test names in text, to patch them, and those it assigns to."""
    named, assigned = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            named.update(PRIVATE_CONSTANT.findall(node.value))
            assigned.update(re.findall(r"\w\.(_[A-Z][A-Z0-9_]*)(?:, [\w.]+)* = ", node.value))
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, (ast.Store, ast.Del)):
            assigned.update(PRIVATE_CONSTANT.findall(node.attr))
    return named & constants | assigned


CONSTANTS = set().union(*(constants_in(tree_of(name)) for name in FILES))


@pytest.mark.parametrize(
    "path", sorted(Path(__file__).parent.glob("*.py")), ids=lambda path: path.stem
)
def test_a_test_exchanges_no_private_constant(path):
    """It passes a figure by `tuning`, or sees to what the constant stands for."""
    assert len(CONSTANTS) > 100
    # The rooms of benchmarks have constants of the same names; here are the examples below.
    if path.stem not in {"test_benchmarks", "test_policy"}:
        assert not constants_exchanged_in(path.read_text(encoding="utf-8"), CONSTANTS)


@pytest.mark.parametrize(
    "source",
    [
        "patch.setattr(room, '_SOME', 1)",
        "patch.setattr('fastnn.room._SOME', 1)",
        "for name in ('_SOME', '_MORE'): setattr(room, name, 1)",
        "room._SOME = 1",
        "room._MORE, room._SOME = 1, 2",
        "with patch(room, _SOME=1): room._SOME += 1",
        "del room._SOME",
        "CODE = 'import room; room._SOME, room.few = 1, 2'",
        "CODE = 'import room; room._SOME = room.few = 1'",
    ],
)
def test_exchanged_constants_are_found_wherever_they_stand(source):
    assert constants_exchanged_in(source, {"_SOME"}) >= {"_SOME"}
    assert not constants_exchanged_in("print(room._SOME, '_few', '_SOME is read')", {"_SOME"})


def test_importing_loads_no_compiler_and_no_extra():
    heavy = {"numba", "llvmlite", "matplotlib", "sklearn", "scipy", "pandas", "polars"}
    public = "import sys, fastnn as fn; [getattr(fn, name) for name in fn.__all__]"
    network = "fn.Sequential([fn.Dense(1)], inputs=1).summary()"
    textbook = "fn.Sequential([fn.Dense(1)], inputs=1).predict([[1.0]], backend='reference')"
    for code in ("import sys, fastnn", public, f"{public}; {network}", f"{public}; {textbook}"):
        loaded = run(f"{code}; print(*sys.modules)").split()
        assert "fastnn" in loaded
        assert not heavy & set(loaded), code


def test_training_loads_no_extra():
    code = (
        "import sys, fastnn as fn; net = fn.Sequential([fn.Dense(1)]); "
        "net.fit([[0.0], [1.0]], [0.0, 1.0], epochs=1); net.predict([[1.0]]); print(*sys.modules)"
    )
    loaded = run(code).split()
    assert "numba" in loaded
    assert not {"matplotlib", "sklearn", "pandas", "polars"} & set(loaded)


def test_the_process_is_left_as_it_was():
    code = """
import logging, os, signal, threading, warnings
import numba, numpy as np

def state():
    return (
        dict(os.environ), os.getcwd(), list(warnings.filters), warnings.showwarning,
        list(logging.root.handlers), logging.root.level, np.geterr(), np.get_printoptions(),
        np.random.get_state()[1].tobytes(), [signal.getsignal(s) for s in signal.valid_signals()],
        threading.enumerate(), numba.get_num_threads(), sys.excepthook, sys.stdout, sys.stderr,
        sys.getrecursionlimit(), sys.getswitchinterval(),
    )

before = state()
import fastnn as fn
for backend in ("native", "reference"):
    net = fn.Sequential([fn.Dense(3, "tanh"), fn.Dense(1)])
    net.fit([[0.0], [1.0]], [0.0, 1.0], epochs=2, validation_fraction=0.5, backend=backend)
    net.predict([[1.0]], backend=backend)
assert state() == before
"""
    run(code)


def run(code: str) -> str:
    """Run code in a fresh interpreter with this package; return what it prints."""
    path = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); "
    done = subprocess.run(
        [sys.executable, "-c", path + code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_estimators_say_what_they_need_where_it_is_missing():
    code = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "sklearn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from fastnn import *
import fastnn as fn
for name in ("MLPClassifier", "MLPRegressor"):
    assert name in dir(fn)
    try:
        exec(f"from fastnn import {name}")
    except ImportError as problem:
        print(problem)
"""
    said = run(code).splitlines()
    assert len(said) == 2
    for line in said:
        assert 'python -m pip install ".[sklearn]"' in line
        assert 'python -m pip install "scikit-learn>=1.9"' in line


@pytest.mark.parametrize("name", [*fastnn.__all__, *fastnn._EXTRAS])
def test_every_public_name_is_explained_with_an_example(name):
    if name in fastnn._EXTRAS:
        pytest.importorskip("sklearn.callback")
    text = inspect.getdoc(getattr(fastnn, name)) or ""
    assert "Examples\n--------\n>>> " in text


@pytest.mark.parametrize("name", FILES)
def test_a_long_file_gives_its_reason(name):
    text = FILES[name].read_text(encoding="utf-8")
    if text.count("\n") > LONGEST:
        words = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
        reason = re.search(r"\b(long|longer)\b[^.]* because\b", words, re.IGNORECASE)
        assert reason, f"{name}: over {LONGEST} lines and no reason (long because ...)"


def test_types_are_shipped():
    assert importlib.resources.files("fastnn").joinpath("py.typed").is_file()


def test_the_version_is_a_literal_and_the_installed_one():
    assert f'__version__ = "{fastnn.__version__}"\n' in FILES["__init__"].read_text()
    try:
        installed = importlib.metadata.version("fastnn-numba")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("a plain checkout, not installed")
    assert installed == fastnn.__version__


def test_public_names_are_those_that_type_checkers_see():
    seen = {
        alias.asname
        for node in ast.walk(tree_of("__init__"))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname is not None
    }
    assert seen == {*fastnn.__all__, *fastnn._EXTRAS}
    assert seen <= set(dir(fastnn))
    with pytest.raises(AttributeError, match="has no attribute 'Sequentail'"):
        importlib.import_module("fastnn").Sequentail  # noqa: B018
