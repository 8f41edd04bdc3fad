"""Networks as source code: what the file computes, that compilers take it, and what is refused."""

from __future__ import annotations

import ctypes
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import DTYPES

import fastnn as fn
from fastnn.activations import ACTIVATIONS
from fastnn.exports import c_texts, plain, python_source

COMPILERS = [name for name in ("gcc", "clang") if shutil.which(name)]
STRICT = [
    "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow",
    "-Wstrict-prototypes", "-Wmissing-prototypes", "-Wdouble-promotion", "-Werror",
]  # fmt: skip
LABELS = ['a "b" ??/ \\', "N é\n*/", "$T"]

# How far C may be from the network, as a part of the largest output.
CLOSE = {"float32": 1e-6, "float64": 1e-13}


def network(activation="relu", dtype="float32", last="softmax", units=3, **layer: Any):
    layers = [
        fn.Dense(13, activation),
        fn.Dense(17, activation, bias=False),
        fn.Dropout(0.3),
        fn.Dense(units, last, **layer),
    ]
    net = fn.Sequential(layers, 7, dtype, rng=1)
    for b in net.biases:
        if b is not None:
            b += np.linspace(-0.5, 0.5, len(b))
    return net


def examples(dtype="float32", n=40):
    return np.random.default_rng(3).normal(size=(n, 7)).astype(dtype)


def compiled(source, target, *more, compiler="gcc"):
    done = subprocess.run(
        [compiler, *STRICT, *more, str(source), "-o", str(target), "-lm"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr


def by_c(net, source, X, name="network"):
    """Return what the compiled file answers, outputs and classes."""
    library = source.with_suffix(".so")
    compiled(source, library, "-O2", "-shared", "-fPIC")
    c = ctypes.CDLL(str(library))
    Y = np.empty((len(X), net.outputs), net.dtype)
    pointer = ctypes.c_void_p
    for x, y in zip(X, Y, strict=True):
        c[f"{name}_predict"](pointer(x.ctypes.data), pointer(y.ctypes.data))
    if not hasattr(c, f"{name}_class"):
        return Y, None
    return Y, np.array([c[f"{name}_class"](pointer(x.ctypes.data)) for x in X])


def test_both_languages_have_every_activation():
    assert set(c_texts.ACTIVATIONS) == set(python_source.ACTIVATIONS) == set(ACTIVATIONS)


@pytest.mark.skipif("gcc" not in COMPILERS, reason="no gcc")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_c_answers_as_the_network_does(activation, dtype, tmp_path):
    net, X = network(activation, dtype), examples(dtype)
    path = tmp_path / "net.c"
    net.to_c(path)
    Y, classes = by_c(net, path, X)
    wanted = net.predict(X)
    assert np.abs(Y - wanted).max() <= CLOSE[dtype] * np.abs(wanted).max()
    assert (classes == wanted.argmax(axis=1)).all()


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("quantize", [None, "int8"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_c_file_passes_its_own_test(dtype, quantize, compiler, tmp_path):
    net, X = network("gelu", dtype, "exp"), examples(dtype)
    net.to_c(tmp_path / "net.c", X, name="wind", quantize=quantize)
    program = tmp_path / "program"
    compiled(tmp_path / "net.c", program, "-O3", "-DWIND_SELF_TEST", compiler=compiler)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:15]) == (0, "passed: 4 rows,")


@pytest.mark.skipif("gcc" not in COMPILERS, reason="no gcc")
@pytest.mark.parametrize("quantize", [None, "int8"])
def test_the_test_of_the_c_file_can_fail(quantize, tmp_path):
    path = tmp_path / "net.c"
    network().to_c(path, examples(), quantize=quantize)
    first = re.search(r"network_b0\[13\] = \{\n    (\S+),", path.read_text())
    text = path.read_text().replace(first[0], first[0].replace(first[1], "0.3F"))
    path.write_text(text)
    compiled(path, tmp_path / "program", "-DNETWORK_SELF_TEST")
    done = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("FAILED: ")


@pytest.mark.skipif("gcc" not in COMPILERS, reason="no gcc")
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_byte_for_each_weight_costs_what_the_head_says(dtype, tmp_path):
    net, X = network("tanh", dtype, "identity"), examples(dtype)
    net.weights[1][:, 4] = 0  # a unit without weights
    net.to_c(tmp_path / "net.c", X, quantize="int8")
    text = (tmp_path / "net.c").read_text()
    assert "static const signed char network_w2[51]" in text
    said = re.search(r"on 40 rows its outputs lie (\S+) at most and (\S+) on",
                     re.sub(r"\s+\*?\s*", " ", text))  # fmt: skip
    Y, classes = by_c(net, tmp_path / "net.c", X)
    apart = np.abs(Y - net.predict(X))
    assert classes is None
    assert float(said[1]) == pytest.approx(apart.max(), rel=0.01)
    assert float(said[2]) == pytest.approx(apart.mean(), rel=0.01)
    assert 0 < apart.max() < 0.05


def test_levels_and_scales_are_the_nearest_to_the_weights():
    net = network("relu")
    exact = plain.PlainNetwork.of(net.layout, net.parameters, None)
    rounded = plain.Quantized.of(exact, examples())
    for W, level, scale in zip(net.weights, rounded.levels, rounded.scales, strict=True):
        assert level.dtype == np.int8
        assert np.abs(level).max(axis=0).tolist() == [127] * W.shape[1]
        assert (np.abs(level * scale.astype(float) - W) <= 0.5001 * scale).all()


@pytest.mark.skipif("gcc" not in COMPILERS, reason="no gcc")
def test_labels_of_any_letters_reach_c(tmp_path):
    net, X = network(), examples()
    net.classes = LABELS
    net.to_c(tmp_path / "net.c")
    (tmp_path / "main.c").write_text(
        '#include "net.c"\n#include <stdio.h>\n'
        'int main(void) { int k; for (k = 0; k < 3; k++) printf("%s|", network_classes[k]);'
        " return 0; }\n"
    )
    compiled(tmp_path / "main.c", tmp_path / "program")
    said = subprocess.run([tmp_path / "program"], capture_output=True, check=True).stdout
    assert said.decode().split("|")[:3] == LABELS
    assert (by_c(net, tmp_path / "net.c", X)[1] == net.predict(X).argmax(axis=1)).all()


@pytest.mark.parametrize(
    ("labels", "kind"),
    [
        ([3, -1, 7], "const long network_classes[3] = {\n    3, -1, 7\n};"),
        ([0.5, 1.5, 1e300], "const double network_classes[3] = {\n    0.5, 1.5, 1e+300\n};"),
        ([2**40, 1, 2], 'const char *const network_classes[3] = {\n    "1099511627776", "1", "2"'),
    ],
)
def test_labels_that_are_numbers_are_numbers_in_c(labels, kind, tmp_path):
    net = network()
    net.classes = labels
    net.to_c(tmp_path / "net.c")
    assert kind in (tmp_path / "net.c").read_text()


@pytest.mark.skipif("gcc" not in COMPILERS, reason="no gcc")
@pytest.mark.parametrize(("last", "side"), [("sigmoid", 0.5), ("identity", 0.0)])
def test_one_output_names_one_of_two_classes(last, side, tmp_path):
    net, X = network(last=last, units=1), examples()
    middle = np.median(net.predict(X))
    net.biases[-1][:] -= np.log(middle / (1 - middle)) if side else middle
    net.classes = ["no", "yes"]
    net.to_c(tmp_path / "net.c")
    net.to_python(tmp_path / "net.py")
    above = net.predict(X)[:, 0] > side
    assert set(above) == {False, True}
    assert (by_c(net, tmp_path / "net.c", X)[1] == above).all()
    module = runpy.run_path(str(tmp_path / "net.py"))
    assert module["classify"](X).tolist() == ["yes" if one else "no" for one in above]


@pytest.mark.parametrize(
    ("last", "units"), [("identity", 1), ("identity", 3), ("sigmoid", 3), ("exp", 1)]
)
def test_outputs_that_name_no_class_are_outputs_alone(last, units, tmp_path):
    net = network(last=last, units=units)
    net.to_c(tmp_path / "net.c")
    net.to_python(tmp_path / "net.py")
    assert "_class" not in (tmp_path / "net.c").read_text()
    assert "classify" not in runpy.run_path(str(tmp_path / "net.py"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_python_answers_as_the_network_does(activation, dtype, tmp_path):
    net, X = network(activation, dtype), examples(dtype)
    net.classes = LABELS
    net.to_python(tmp_path / "net.py", X)
    module = runpy.run_path(str(tmp_path / "net.py"))
    Y, wanted = module["predict"](X), net.predict(X)
    assert Y.dtype == net.dtype
    assert np.abs(Y - wanted).max() <= 3 * CLOSE[dtype] * np.abs(wanted).max()
    assert module["classify"](X).tolist() == np.array(LABELS)[wanted.argmax(axis=1)].tolist()
    with pytest.raises(ValueError, match=r"X must be of shape \(n, 7\); got \(7,\)"):
        module["predict"](X[0])


def test_the_python_module_tests_itself_without_this_library(tmp_path):
    network().to_python(tmp_path / "net.py", examples())
    done = subprocess.run(
        [sys.executable, "-W", "error", tmp_path / "net.py"], cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("passed: 4 rows,")
    assert "fastnn" not in re.sub(r'""".*?"""', "", (tmp_path / "net.py").read_text(), flags=re.S)


def test_the_same_network_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        network().to_c(tmp_path / f"{name}.c", examples())
        network().to_python(tmp_path / f"{name}.py", examples())
    for kind in ("c", "py"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_an_estimator_s_network_knows_its_classes(tmp_path):
    pytest.importorskip("sklearn")
    X = examples("float64")
    y = np.where(X[:, 0] > 0, "up", "down")
    model = fn.MLPClassifier((5,), max_iter=20, random_state=0)
    with pytest.warns(match="converged"):
        model.fit(X, y)
    model.network_.to_python(tmp_path / "net.py")
    module = runpy.run_path(str(tmp_path / "net.py"))
    assert (module["classify"](X) == model.predict(X)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "two words"}, "name must be an identifier of C: .* got 'two words'"),
        ({"name": "double"}, "name must be an identifier of C"),
        ({"name": "é"}, "name must be an identifier of C"),
        ({"name": 3}, "name must be an identifier of C; got 3"),
        ({"quantize": "int4"}, "quantize must be None or 'int8'; got 'int4'"),
        ({"quantize": "int8"}, "quantize='int8' needs X"),
        ({"X": np.zeros((0, 7))}, "X must hold at least one example"),
        ({"X": np.zeros((3, 6))}, "X has 6 features, but this network was built for 7"),
    ],
)
def test_what_cannot_be_written_is_refused(options, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        network().to_c(tmp_path / "net.c", **options)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_refused(tmp_path):
    net = network()
    net.weights[0][0, 0] = np.nan
    for write in (net.to_c, net.to_python):
        with pytest.raises(ValueError, match="all of its parameters are finite; got 1 that"):
            write(tmp_path / "net")
    assert not list(tmp_path.iterdir())


def test_a_label_that_no_compiler_takes_is_refused(tmp_path):
    net = network()
    net.classes = ["a", "b", "é" * 3000]
    with pytest.raises(ValueError, match="at most 4095 bytes to be written in C; got one of 6000"):
        net.to_c(tmp_path / "net.c")


@pytest.mark.skipif("gcc" not in COMPILERS, reason="no gcc")
def test_the_page_s_examples_run(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).parents[1] / "docs" / "serving.md").read_text("utf-8")
    page = page.split("\n## Inside compiled code\n")[0]
    train, ask = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (main,) = re.findall(r"```c\n(.*?)```", page, flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    exec(compile(train, "serving.md", "exec"), {})
    exec(compile(ask, "serving.md", "exec"), {})
    assert capsys.readouterr().out == "['inside' 'outside']\n"
    Path("main.c").write_text(main)
    for source in ("circle.c", "circle_small.c"):
        compiled("main.c", "program", source)
        said = subprocess.run(["./program"], capture_output=True, text=True, check=True).stdout
        assert said == "inside\n"
        compiled(source, "test", "-DCIRCLE_SELF_TEST")
        subprocess.run(["./test"], capture_output=True, check=True)
    assert re.search(r"on 2,000 rows its outputs\W+lie", Path("circle_small.c").read_text())
