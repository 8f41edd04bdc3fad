from __future__ import annotations

import array as stdlib_array
import dataclasses
import datetime
import decimal
import fractions
import importlib
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fastnn import gate
from fastnn.gate import (
    Targets,
    class_weights,
    features,
    output_buffer,
    readable,
    row_or_rows,
    sample_weights,
    targets,
)

NUMBERS = np.arange(12.0).reshape(4, 3) % 5
BITS = np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
DTYPES = ["float32", "float64"]


class OnlyArray:
    """Anything that offers itself by NumPy's protocol, in its oldest form."""

    def __init__(self, content: np.ndarray) -> None:
        self.content = content

    def __array__(self, dtype: Any = None) -> np.ndarray:
        return self.content


def unaligned(content: np.ndarray) -> np.ndarray:
    raw = np.zeros(content.nbytes + 1, dtype=np.uint8)
    moved = raw[1:].view(content.dtype).reshape(content.shape)
    moved[...] = content
    assert not moved.flags.aligned
    return moved


def read_only(content: np.ndarray) -> np.ndarray:
    locked = content.copy()
    locked.flags.writeable = False
    return locked


def strided(content: np.ndarray) -> np.ndarray:
    wide = np.full((2 * content.shape[0], 3 * content.shape[1]), 99.0)
    wide[::2, ::3] = content
    return wide[::2, ::3]


def matrix(content: np.ndarray) -> np.ndarray:
    return content.view(np.matrix)


def objects(content: np.ndarray) -> np.ndarray:
    kinds = [int, float, np.float32, np.int16, fractions.Fraction, decimal.Decimal, np.longdouble]
    cells = [kinds[place % len(kinds)](int(value)) for place, value in enumerate(content.flat)]
    result = np.empty(content.size, dtype=object)
    result[:] = cells
    return result.reshape(content.shape)


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float32": lambda a: a.astype("f4"),
    "float64": lambda a: a.astype("f8"),
    "lists": lambda a: a.tolist(),
    "tuples": lambda a: tuple(map(tuple, a.tolist())),
    "list of arrays": lambda a: list(a),
    "integers in lists": lambda a: a.astype(int).tolist(),
    "int8": lambda a: a.astype("i1"),
    "uint64": lambda a: a.astype("u8"),
    "int32 big-endian": lambda a: a.astype(">i4"),
    "float16": lambda a: a.astype("f2"),
    "longdouble": lambda a: a.astype(np.longdouble),
    "float32 big-endian": lambda a: a.astype(">f4"),
    "float64 big-endian": lambda a: a.astype(">f8"),
    "Fortran order": lambda a: np.asfortranarray(a),
    "float32 Fortran order": lambda a: np.asfortranarray(a, dtype="f4"),
    "strided": strided,
    "negative strides": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "unaligned": unaligned,
    "float32 unaligned": lambda a: unaligned(a.astype("f4")),
    "read-only": read_only,
    "broadcast": lambda a: np.broadcast_to(a[None], (1, *a.shape))[0],
    "matrix": matrix,
    "mask without entries": lambda a: np.ma.array(a, mask=False),
    "no mask": lambda a: np.ma.array(a),
    "memoryview": lambda a: memoryview(a.copy()),
    "array protocol": lambda a: OnlyArray(a.copy()),
    "objects": objects,
    "objects in lists": lambda a: [[decimal.Decimal(int(v)) for v in row] for row in a.tolist()],
}


def pandas_form(build: Callable[[Any, np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    return lambda a: build(pytest.importorskip("pandas"), a)


def polars_form(build: Callable[[Any, np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
    return lambda a: build(pytest.importorskip("polars"), a)


FRAMES: dict[str, Callable[[np.ndarray], Any]] = {
    "pandas": pandas_form(lambda pd, a: pd.DataFrame(a)),
    "pandas float32": pandas_form(lambda pd, a: pd.DataFrame(a.astype("f4"))),
    "pandas integers": pandas_form(lambda pd, a: pd.DataFrame(a.astype(int))),
    "pandas mixed": pandas_form(
        lambda pd, a: pd.DataFrame({"a": a[:, 0].astype("i2"), "b": a[:, 1], "c": a[:, 2]})
    ),
    "pandas nullable": pandas_form(
        lambda pd, a: pd.DataFrame(
            {
                "a": pd.array(a[:, 0].astype(int), dtype="Int64"),
                "b": pd.array(a[:, 1], dtype="Float64"),
                "c": pd.array(a[:, 2], dtype="Float32"),
            }
        )
    ),
    "pandas all Int64": pandas_form(lambda pd, a: pd.DataFrame(a).astype("Int64")),
    "pandas categories": pandas_form(
        lambda pd, a: pd.DataFrame({"a": pd.Categorical(a[:, 0]), "b": a[:, 1], "c": a[:, 2]})
    ),
    "pandas index and names": pandas_form(
        lambda pd, a: pd.DataFrame(a, index=list("wxyz"), columns=["a", "a", "b"])
    ),
    "pandas rows reversed": pandas_form(lambda pd, a: pd.DataFrame(a[::-1].copy()).iloc[::-1]),
    "polars": polars_form(lambda pl, a: pl.DataFrame(a, schema=["a", "b", "c"])),
    "polars mixed": polars_form(
        lambda pl, a: pl.DataFrame(
            {"a": a[:, 0].astype("u1"), "b": a[:, 1].astype("f4"), "c": a[:, 2]}
        )
    ),
}

TRUTHS: dict[str, Callable[[np.ndarray], Any]] = {
    "bool": lambda a: a.astype(bool),
    "bools in lists": lambda a: a.astype(bool).tolist(),
    "pandas bool": pandas_form(lambda pd, a: pd.DataFrame(a.astype(bool))),
    "pandas boolean": pandas_form(lambda pd, a: pd.DataFrame(a.astype(bool)).astype("boolean")),
    "pandas bool beside float": pandas_form(
        lambda pd, a: pd.DataFrame({"a": a[:, 0].astype(bool), "b": a[:, 1], "c": a[:, 2]})
    ),
    "polars bool beside float": polars_form(
        lambda pl, a: pl.DataFrame({"a": a[:, 0].astype(bool), "b": a[:, 1], "c": a[:, 2]})
    ),
}

VECTORS: dict[str, Callable[[np.ndarray], Any]] = {
    "float64": lambda a: a.astype("f8"),
    "int64": lambda a: a.astype("i8"),
    "int8": lambda a: a.astype("i1"),
    "uint64": lambda a: a.astype("u8"),
    "big-endian": lambda a: a.astype(">i8"),
    "strided": lambda a: np.repeat(a, 2)[::2],
    "negative stride": lambda a: a[::-1].copy()[::-1],
    "read-only": lambda a: read_only(a),
    "float16": lambda a: a.astype("f2"),
    "longdouble": lambda a: a.astype(np.longdouble),
    "list": lambda a: a.astype(int).tolist(),
    "tuple of floats": lambda a: tuple(a.tolist()),
    "stdlib array": lambda a: stdlib_array.array("i", a.astype(int).tolist()),
    "bytearray": lambda a: bytearray(a.astype("u1")),
    "objects": objects,
    "pandas": pandas_form(lambda pd, a: pd.Series(a)),
    "pandas Int64": pandas_form(lambda pd, a: pd.Series(a).astype("Int64")),
    "pandas category": pandas_form(lambda pd, a: pd.Series(a.astype(int)).astype("category")),
    "pandas index": pandas_form(lambda pd, a: pd.Index(a)),
    "polars": polars_form(lambda pl, a: pl.Series(a)),
    "polars Int8": polars_form(lambda pl, a: pl.Series(a).cast(pl.Int8)),
}


def fingerprint(value: Any) -> Any:
    """All of a value that a careless reader could change."""
    if isinstance(value, np.ma.MaskedArray):
        return fingerprint(value.data), fingerprint(np.ma.getmaskarray(value))
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return [(id(item), repr(item)) for item in value.flat], str(value.flags)
        return value.tobytes(), value.dtype, value.strides, str(value.flags)
    if isinstance(value, OnlyArray):
        return fingerprint(value.content)
    if isinstance(value, (memoryview, bytearray)):
        return bytes(value)
    if isinstance(value, list):
        return [fingerprint(item) for item in value]
    if hasattr(value, "dtypes"):
        return str(value), str(value.dtypes)
    return repr(value)


def check_fit(result: np.ndarray, dtype: Any) -> None:
    """Hold what the gate promises of every array that leaves it."""
    assert type(result) is np.ndarray
    assert result.dtype == np.dtype(dtype)
    assert result.dtype.isnative
    assert result.flags.c_contiguous
    assert result.flags.aligned
    assert not result.flags.writeable


def refused(error: type[Exception], *parts: str) -> Any:
    """Expect an error whose message holds all the parts, in this order, and is a sentence."""
    return pytest.raises(error, match="(?s)^" + ".*".join(map(re.escape, parts)) + r".*(?<=\.)$")


# What is accepted


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", {**FORMS, **FRAMES})
def test_features_takes_every_form(form: str, dtype: str) -> None:
    X = {**FORMS, **FRAMES}[form](NUMBERS)
    before = fingerprint(X)
    result = features(X, dtype, 3)
    check_fit(result, dtype)
    np.testing.assert_array_equal(result, NUMBERS)
    assert fingerprint(X) == before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", TRUTHS)
def test_features_takes_truth_values(form: str, dtype: str) -> None:
    X = TRUTHS[form](BITS)
    before = fingerprint(X)
    result = features(X, dtype, None)
    check_fit(result, dtype)
    np.testing.assert_array_equal(result, BITS)
    assert fingerprint(X) == before


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_features_takes_memory_maps(tmp_path: Path, mode: Any) -> None:
    NUMBERS.astype("f4").tofile(tmp_path / "X")
    X = np.memmap(tmp_path / "X", dtype="f4", mode=mode, shape=(4, 3))
    result = features(X, "float32", 3)
    check_fit(result, "float32")
    np.testing.assert_array_equal(result, NUMBERS)
    assert np.shares_memory(result, X)
    assert X.flags.writeable == (mode != "r")


def test_features_takes_dtypes_of_every_spelling() -> None:
    for dtype in ("float32", np.float32, np.dtype("f4")):
        check_fit(features(NUMBERS, dtype, 3), "float32")


def test_features_leaves_the_width_open() -> None:
    assert features(NUMBERS, "float32", None).shape == (4, 3)


def test_features_takes_one_example_as_vector_where_allowed() -> None:
    x = np.arange(3, dtype="f4")
    result = features(x, "float32", 3, allow_vector=True)
    check_fit(result, "float32")
    assert result.shape == (1, 3)
    assert np.shares_memory(result, x)
    assert x.shape == (3,)
    assert x.flags.writeable
    assert features(NUMBERS, "float32", 3, allow_vector=True).shape == (4, 3)
    with refused(ValueError, "X has 2 features, but this network was built for 3"):
        features([1, 2], "float32", 3, allow_vector=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "form",
    {
        "whole": lambda a: a,
        "rows": lambda a: a[1:3],
        "read-only": read_only,
        "matrix": matrix,
        "masked": lambda a: np.ma.array(a),
        "memoryview": memoryview,
        "array protocol": OnlyArray,
        "one row of Fortran order": lambda a: np.asfortranarray(a[:1]),
    }.items(),
    ids=lambda item: item[0],
)
def test_features_copies_nothing_that_fits(form: tuple[str, Any], dtype: str) -> None:
    content = NUMBERS.astype(dtype)
    X = form[1](content)
    result = features(X, dtype, 3)
    check_fit(result, dtype)
    memory = X if isinstance(X, np.ndarray) else content
    assert np.shares_memory(result, memory)
    assert result.base is not None
    assert content.flags.writeable


def test_features_copies_no_fitting_frame() -> None:
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(np.asfortranarray(NUMBERS)).T
    content = X.to_numpy()
    if not content.flags.c_contiguous:
        pytest.skip("this pandas keeps its blocks the other way round")
    assert np.shares_memory(features(X, "float64", 4), content)


def test_features_copies_what_does_not_fit() -> None:
    X = NUMBERS.copy()
    assert not np.shares_memory(features(X, "float32", 3), X)
    assert not np.shares_memory(features(X[:, ::2], "float64", 2), X)


def test_large_finite_numbers_whose_sum_overflows_pass() -> None:
    X = np.full((4, 3), np.finfo("f4").max)
    np.testing.assert_array_equal(features(X, "float32", 3), X)


def test_neither_pandas_nor_polars_is_imported() -> None:
    code = (
        "import sys; from fastnn.gate import features; features([[1]], 'float32', 1);"
        "print(sorted({'pandas', 'polars', 'numba'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(importlib.import_module("fastnn.gate").__file__).parents[1],
    )
    assert run.stdout.strip() == "[]", run.stderr


# What is refused wherever an array is asked for

ENCODE = "how categories become numbers, which is another thing for X than for y"

NO_NUMBERS: dict[str, tuple[Callable[[], Any], tuple[str, ...]]] = {
    "None": (lambda: None, ("must be an array of numbers; got None.",)),
    "string": (lambda: "abc", ("must be an array of numbers; got 'abc' (str).",)),
    "bytes": (lambda: b"abc", ("must be an array of numbers; got b'abc' (bytes).",)),
    "dict": (lambda: {"a": [1, 2]}, ("must be an array of numbers; got {'a': [1, 2]} (dict).",)),
    "set": (lambda: {1, 2}, ("must be an array of numbers; got {1, 2} (set).",)),
    "values of a dict": (lambda: {"a": 1}.values(), ("must be an array of numbers;",)),
    "generator": (
        lambda: (i for i in range(3)),
        (
            "must be an array of numbers; got",
            "(generator). Collect it with list() first.",
        ),
    ),
    "iterator": (
        lambda: map(int, "123"),
        (
            "must be an array of numbers; got",
            "(map). Collect it with list() first.",
        ),
    ),
    "class": (
        lambda: list,
        (
            "must be an array of numbers; got",
            "(type).",
        ),
    ),
    "object": (
        object,
        (
            "must be an array of numbers; got",
            "(object).",
        ),
    ),
    "complex": (
        lambda: np.ones((2, 2), complex),
        ("must hold real numbers; got complex numbers (dtype complex128). Convert",),
    ),
    "complex in lists": (
        lambda: [[1, 2j]],
        ("must hold real numbers; got complex numbers (dtype complex128). Convert",),
    ),
    "complex objects": (
        lambda: np.array([[1, 2j]], dtype=object),
        ("must hold real numbers; got 2j (complex) at row 0, column 1.",),
    ),
    "dates": (
        lambda: np.array([["2020-01-01"]], "M8[D]"),
        ("must hold real numbers; got dates (dtype datetime64[D]). Convert",),
    ),
    "dates in lists": (
        lambda: [[datetime.date(2020, 1, 1)]],
        (
            "must hold real numbers; got",
            "(date) at row 0, column 0.",
        ),
    ),
    "durations": (
        lambda: np.ones((2, 2), "m8[s]"),
        ("must hold real numbers; got durations (dtype timedelta64[s]). Convert",),
    ),
    "duration objects": (
        lambda: np.array([[1, np.timedelta64(3, "s")], [0, 0]], dtype=object),
        (
            "must hold real numbers; got",
            "(timedelta64) at row 0, column 1.",
        ),
    ),
    "records": (
        lambda: np.zeros(3, [("a", "f4"), ("b", "f4")]),
        ("must hold real numbers; got records (dtype [('a', '<f4'), ('b', '<f4')]). Convert",),
    ),
    "masked records": (
        lambda: np.ma.zeros(3, [("a", "f4"), ("b", "f4")]),
        ("must hold real numbers; got records",),
    ),
    "void": (lambda: np.zeros((2, 2), "V4"), ("must hold real numbers; got records (dtype |V4).",)),
    "strings": (
        lambda: np.array([["red", "2"]]),
        (
            "must hold real numbers; got 'red' (str) at row 0, column 0.",
            ENCODE,
        ),
    ),
    "byte strings": (
        lambda: np.array([[b"red"]]),
        (
            "must hold real numbers; got b'red' (bytes) at row 0, column 0.",
            ENCODE,
        ),
    ),
    "a string among numbers": (
        lambda: [[1, 2.5], [3, "red"]],
        (
            "must hold real numbers; got 'red' (str) at row 1, column 1.",
            ENCODE,
        ),
    ),
    "a string among objects": (
        lambda: np.array([1, 2, "red"], dtype=object),
        (
            "must hold real numbers; got 'red' (str) at row 2.",
            ENCODE,
        ),
    ),
    "a list among objects": (
        lambda: np.array([[1], [2, 3]], dtype=object),
        ("must hold real numbers; got [1] (list) at row 0.",),
    ),
    "dicts in a list": (
        lambda: [{"a": 1}],
        ("must hold real numbers; got {'a': 1} (dict) at row 0.",),
    ),
    "ragged": (
        lambda: [[1, 2], [3, 4], [5]],
        ("must be a rectangular array of numbers; got row 0 of length 2 but row 2 of length 1.",),
    ),
    "ragged with a number": (
        lambda: [[1, 2], 3],
        ("must be a rectangular array of numbers; got row 0 of length 2 but row 1 of length 1.",),
    ),
    "ragged inside": (
        lambda: [[[1, 2]], [[1]]],
        (
            "must be a rectangular array of numbers; got [[[1, 2]], [[1]]] (list)",
            "cannot read",
        ),
    ),
    "ragged arrays": (
        lambda: [np.ones(3), np.ones(2)],
        ("must be a rectangular array of numbers; got row 0 of length 3 but row 1 of length 2.",),
    ),
    "pandas strings": (
        pandas_form(lambda pd, a: pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})),
        (
            "must hold real numbers; got 'x' (str",
            "at row 0, column 1.",
            ENCODE,
        ),
    ),
    "pandas categories of strings": (
        pandas_form(lambda pd, a: pd.Series(["x", "y"], dtype="category")),
        (
            "must hold real numbers; got 'x' (str",
            "at row 0.",
            ENCODE,
        ),
    ),
    "pandas dates": (
        pandas_form(lambda pd, a: pd.DataFrame({"a": [1.0], "b": pd.to_datetime(["2020-01-01"])})),
        (
            "must hold real numbers; got dates (dtype datetime64",
            "in column 1. Convert",
        ),
    ),
    "polars strings": (
        polars_form(lambda pl, a: pl.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})),
        (
            "must hold real numbers; got 'x' (str",
            "at row 0, column 1.",
            ENCODE,
        ),
    ),
    "polars dates": (
        polars_form(lambda pl, a: pl.DataFrame({"a": [1.0], "b": [datetime.date(2020, 1, 1)]})),
        ("must hold real numbers; got dates (dtype datetime64[D]) in column 1. Convert",),
    ),
    "polars arrays": (
        polars_form(
            lambda pl, a: pl.DataFrame(
                {"a": [1, 2], "b": pl.Series([[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2))}
            )
        ),
        ("must hold one number in each cell; got arrays of shape (2,) in column 1.",),
    ),
    "polars lists": (
        polars_form(lambda pl, a: pl.DataFrame({"a": [[1, 2], [3]]})),
        (
            "must hold real numbers; got",
            "at row 0, column 0.",
        ),
    ),
    "polars lazy": (
        polars_form(lambda pl, a: pl.LazyFrame({"a": [1]})),
        (
            "must be an array of numbers; got",
            "(LazyFrame).",
        ),
    ),
}


@pytest.mark.parametrize("form", NO_NUMBERS)
def test_what_is_no_number_is_refused(form: str) -> None:
    build, parts = NO_NUMBERS[form]
    columns = [part.replace(ENCODE, "Encode categories as numbers first") for part in parts]
    classes = [part.replace(ENCODE, "Number the classes first") for part in parts]
    value = build(NUMBERS) if form.startswith(("pandas", "polars")) else build()
    with refused(TypeError, f"X {columns[0]}", *columns[1:]):
        features(value, "float32", None)
    if form.startswith(("generator", "iterator")):
        return
    for kind in ("classes", "probabilities", "sides"):
        with refused(TypeError, f"target {classes[0]}", *classes[1:]):
            targets(value, kind, 2, 2, "float32", "target")
    numeric = [part.replace(ENCODE, "A loss on numbers takes no classes") for part in parts]
    for kind in ("real", "counts"):
        with refused(TypeError, f"target {numeric[0]}", *numeric[1:]):
            targets(value, kind, 2, 2, "float32", "target")
    if value is not None:
        with pytest.raises(TypeError, match=r"^weights must .*\.$"):
            sample_weights(value, 2, "float32", "weights")


@pytest.mark.parametrize("text", ["1.5", "1e-3", "-2", " 7 ", "nan", b"0.25"])
def test_numbers_written_as_text_are_to_be_read_as_numbers(text: str | bytes) -> None:
    advice = "np.asarray(..., dtype=float)"
    with refused(TypeError, "X must hold real numbers; got", advice):
        features([[text]], "float32", None)
    with refused(TypeError, "weights must hold real numbers; got", advice):
        sample_weights([text], 1, "float32", "weights")
    for kind in ("real", "counts"):
        with refused(TypeError, "y must hold real numbers; got", advice):
            targets([text], kind, 1, 1, "float32")
    # Classes may well be called so.
    with refused(TypeError, "y must hold real numbers; got", "Number the classes first"):
        targets([text], "classes", 2, 1, "float32")


@pytest.mark.parametrize("error", [RuntimeError, ZeroDivisionError, OverflowError, KeyError])
def test_an_object_that_fails_to_become_an_array_is_named(error: type[Exception]) -> None:
    class Strange:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            raise error("the device is busy")

    with refused(TypeError, "X must be", "Strange", "the device is busy"):
        features(Strange(), "float32", None)
    with refused(TypeError, "y must be", "Strange", "the device is busy"):
        targets(Strange(), "real", 1, 1, "float32")
    with refused(TypeError, "w must be", "Strange", "the device is busy"):
        readable(Strange(), "w")


def test_running_out_of_memory_stays_what_it_is() -> None:
    class Endless:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            raise MemoryError

    with pytest.raises(MemoryError):
        features(Endless(), "float32", None)


@pytest.mark.parametrize("form", ["csr_matrix", "csc_array", "coo_matrix", "dok_array"])
def test_sparse_matrices_are_refused(form: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    X = getattr(sparse, form)(NUMBERS)
    with refused(TypeError, "X must be a dense array; got a sparse one (", "Use X.toarray()."):
        features(X, "float32", 3)
    with refused(TypeError, "y must be a dense array; got a sparse one (", "Use y.toarray()."):
        targets(X, "real", 3, 4, "float32")


def test_sparse_matrices_are_known_by_what_they_can_do() -> None:
    class Sparse:
        nnz = 3

        def toarray(self) -> np.ndarray:
            raise AssertionError("a sparse array must not be made dense unasked")

    with refused(TypeError, "X must be a dense array; got a sparse one (Sparse). Use X.toarray()."):
        features(Sparse(), "float32", 3)


def test_an_array_that_cannot_be_read_says_why() -> None:
    class OnAnotherDevice:
        def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
            raise RuntimeError("copy it to the host first")

    with refused(TypeError, "X must be a rectangular array", "(copy it to the host first)"):
        features(OnAnotherDevice(), "float32", 3)


MISSING: dict[str, tuple[Callable[[], Any], str]] = {
    "None": (lambda: [[1.0, 2.0], [3.0, None]], "X has a missing value (None) at row 1, column 1;"),
    "pandas NA": (
        pandas_form(lambda pd, a: pd.DataFrame({"a": [1.0, 2.0], "b": [0.0, pd.NA]})),
        "X has a missing value (<NA>) at row 1, column 1;",
    ),
    "pandas NaT": (
        pandas_form(lambda pd, a: np.array([[1, pd.NaT]], dtype=object)),
        "X has a missing value (NaT) at row 0, column 1;",
    ),
    "pandas boolean": (
        pandas_form(lambda pd, a: pd.DataFrame({"a": pd.array([True, None], dtype="boolean")})),
        "X has a missing value (<NA>) at row 1, column 0;",
    ),
    "pandas Int64": (
        pandas_form(
            lambda pd, a: pd.DataFrame({"a": [1, 2], "b": pd.array([1, None], dtype="Int64")})
        ),
        "X has NaN at row 1, column 1 (1 non-finite value in all);",
    ),
    "pandas Float64": (
        pandas_form(lambda pd, a: pd.DataFrame({"a": pd.array([None, 1.0], dtype="Float64")})),
        "X has NaN at row 0, column 0 (1 non-finite value in all);",
    ),
    "pandas float": (
        pandas_form(lambda pd, a: pd.DataFrame({"a": [1.0, None], "b": [None, 1.0]})),
        "X has NaN at row 0, column 1 (2 non-finite values in all);",
    ),
    "polars": (
        polars_form(lambda pl, a: pl.DataFrame({"a": [1, None], "b": [1.0, 2.0]})),
        "X has NaN at row 1, column 0 (1 non-finite value in all);",
    ),
    "polars bool": (
        polars_form(lambda pl, a: pl.DataFrame({"a": [True, None]})),
        "X has a missing value (None) at row 1, column 0;",
    ),
    "masked": (
        lambda: np.ma.array(NUMBERS, mask=NUMBERS == 4),
        "X has a masked entry at row 1, column 1;",
    ),
    "masked inside a list": (
        lambda: [np.ma.array([1, 2]), np.ma.array([1, 2], mask=[1, 0])],
        "X has a masked entry at row 1, column 0;",
    ),
    "masked inside a tuple": (
        lambda: (1.0, np.ma.masked),
        "X has a masked entry at row 1;",
    ),
    "masked and whole": (
        lambda: np.ma.array(2.0, mask=True),
        "X has a masked entry at its only place;",
    ),
}


@pytest.mark.parametrize("form", MISSING)
def test_missing_values_are_refused(form: str) -> None:
    build, message = MISSING[form]
    value = build(NUMBERS) if form.startswith(("pandas", "polars")) else build()
    with refused(ValueError, message, "fill it in or drop such rows first."):
        features(value, "float32", None)


# Features


@pytest.mark.parametrize(
    ("X", "parts"),
    [
        (3.0, ("X must be 2-D, one row for each example", "got shape ().")),
        (
            np.zeros(4),
            (
                "X must be 2-D",
                "got shape (4,).",
                "(X, (1, -1)) for one example",
                "(-1, 1)) for one f",
            ),
        ),
        ([1, 2, 3], ("X must be 2-D", "got shape (3,). Use np.reshape(X, (1, -1))")),
        (
            np.zeros((2, 3, 4)),
            ("X must be 2-D", "got shape (2, 3, 4).", "np.reshape(X, (len(X), -1))"),
        ),
        ([], ("X must hold at least one example and one feature; got shape (0,).",)),
        ([[]], ("X must hold at least one example and one feature; got shape (1, 0).",)),
        (
            np.zeros((0, 3)),
            ("X must hold at least one example and one feature; got shape (0, 3).",),
        ),
        (np.zeros((0,), "U1"), ("X must hold at least one example", "got shape (0,).")),
    ],
    ids=lambda value: None if isinstance(value, tuple) else str(np.shape(value)),
)
def test_features_refuses_shapes(X: Any, parts: tuple[str, ...]) -> None:
    with refused(ValueError, *parts):
        features(X, "float32", 3)


def test_features_refuses_empty_frames() -> None:
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    for X, shape in [
        (pd.DataFrame(), "(0, 0)"),
        (pd.DataFrame(index=[1, 2]), "(2, 0)"),
        (pl.DataFrame(), "(0, 0)"),
        (pl.DataFrame({"a": []}, schema={"a": pl.Float32}), "(0, 1)"),
    ]:
        with refused(ValueError, "X must hold at least one example", f"got shape {shape}."):
            features(X, "float32", None)


@pytest.mark.parametrize(
    ("came", "words"), [(1, "1 feature"), (2, "2 features"), (5, "5 features")]
)
def test_features_refuses_another_width(came: int, words: str) -> None:
    message = (
        f"X has {words}, but this network was built for 4: its input width is fixed; rebuild the"
        " network (or retrain a new one) for the new features."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        features(np.zeros((3, came)), "float32", 4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("came", ["float16", "float32", "float64", "longdouble", ">f4", "object"])
@pytest.mark.parametrize(
    ("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "-infinity")]
)
def test_features_names_what_is_not_finite(value: float, name: str, came: str, dtype: str) -> None:
    X = np.zeros((5, 4))
    X[3, 2] = value
    X[4, 0] = np.nan
    X = X.astype(came)
    before = fingerprint(X)
    with refused(
        ValueError,
        f"X has {name} at row 3, column 2 (2 non-finite values in all);",
        "every value must be a finite number: fill it in or drop such rows first.",
    ):
        features(X, dtype, 4)
    assert fingerprint(X) == before


def test_features_finds_opposite_infinities() -> None:
    with refused(ValueError, "X has infinity at row 0, column 0 (2 non-finite values in all);"):
        features([[np.inf, -np.inf]], "float64", 2)


def test_features_finds_what_lies_far_inside() -> None:
    X = np.zeros((300_000, 2), dtype="f4")
    X[200_001, 1] = np.nan
    X[299_999, 0] = np.inf
    with refused(ValueError, "X has NaN at row 200001, column 1 (2 non-finite values in all);"):
        features(X, "float32", 2)


@pytest.mark.parametrize(
    ("X", "count"),
    [
        (np.array([[1.0, 2.0], [-1e300, 3.0]]), "1 such value in all"),
        (np.array([[1.0, 2.0], [-1e300, 1e40]]), "2 such values in all"),
        (np.array([[1.0, 2.0], [-1e300, 3.0]], dtype=object), "1 such value in all"),
        ([[1, 2], [-(10**300), 3]], "1 such value in all"),
    ],
    ids=["one", "two", "objects", "integers"],
)
def test_features_names_what_overflows_float32(X: Any, count: str) -> None:
    with refused(
        ValueError,
        "X has -1e+300 at row 1, column 0, which does not fit float32",
        f'({count}); scale the data, or build the network with dtype="float64".',
    ):
        features(X, "float32", 2)
    assert features(X, "float64", 2)[1, 0] == -1e300


@pytest.mark.skipif(np.finfo(np.longdouble).max <= np.finfo(float).max, reason="no longer double")
@pytest.mark.parametrize("dtype", DTYPES)
def test_features_names_what_overflows_float64(dtype: str) -> None:
    X = np.array([[1, np.finfo(np.longdouble).max]])
    with refused(ValueError, "X has 1.18973149535723", f"does not fit {dtype} (1 such value"):
        features(X, dtype, 2)


def test_features_refuses_integers_beyond_float64() -> None:
    with refused(ValueError, "X must hold numbers that fit float64; got 10", "at row 0, column 1."):
        features([[1, 10**400]], "float64", 2)


def test_every_message_names_the_argument() -> None:
    cases: list[tuple[Any, str]] = [
        (None, "validation_data[0] must be an array of numbers; got None."),
        ([1, 2], "np.reshape(validation_data[0], (1, -1))"),
        ([[1, 2]], "validation_data[0] has 2 features"),
        ([[1, 2, np.nan]], "validation_data[0] has NaN"),
        ([[1, 2, 1e99]], "validation_data[0] has 1e+99"),
        ([[]], "validation_data[0] must hold at least one example"),
    ]
    for X, part in cases:
        with pytest.raises((TypeError, ValueError), match=re.escape(part)):
            features(X, "float32", 3, "validation_data[0]")


# Targets


def check_targets(result: Targets, dtype: str, outputs: int) -> None:
    assert isinstance(result, Targets)
    check_fit(result.labels, "int64")
    check_fit(result.values, dtype)
    assert result.labels.ndim == 1
    assert result.values.shape[1] == outputs
    assert 0 in (len(result.labels), len(result.values))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", VECTORS)
def test_targets_takes_class_numbers_in_every_form(form: str, dtype: str) -> None:
    y = VECTORS[form](np.array([2.0, 0.0, 1.0, 2.0]))
    before = fingerprint(y)
    result = targets(y, "classes", 3, 4, dtype)
    check_targets(result, dtype, 3)
    np.testing.assert_array_equal(result.labels, [2, 0, 1, 2])
    assert len(result) == 4
    assert fingerprint(y) == before


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", VECTORS)
def test_targets_takes_numbers_in_every_form(form: str, dtype: str) -> None:
    y = VECTORS[form](np.array([7.0, 0.0, 1.0, 2.0]))
    before = fingerprint(y)
    result = targets(y, "real", 1, 4, dtype)
    check_targets(result, dtype, 1)
    np.testing.assert_array_equal(result.values, [[7], [0], [1], [2]])
    assert len(result) == 4
    assert fingerprint(y) == before


@pytest.mark.parametrize("form", {**FORMS, **FRAMES})
def test_targets_takes_many_columns_in_every_form(form: str) -> None:
    y = {**FORMS, **FRAMES}[form](NUMBERS)
    before = fingerprint(y)
    result = targets(y, "real", 3, 4, "float32")
    check_targets(result, "float32", 3)
    np.testing.assert_array_equal(result.values, NUMBERS)
    assert fingerprint(y) == before


@pytest.mark.parametrize("form", TRUTHS)
def test_targets_takes_truth_values_as_probabilities(form: str) -> None:
    result = targets(TRUTHS[form](BITS), "probabilities", 3, 4, "float64")
    check_targets(result, "float64", 3)
    np.testing.assert_array_equal(result.values, BITS)


@pytest.mark.parametrize("kind", ["real", "counts", "probabilities"])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("came", [bool, int, "f4", "f8"])
def test_one_output_takes_a_vector(kind: Any, shape: tuple[int, ...], came: Any) -> None:
    y = np.array([0, 1, 1, 0], dtype=came).reshape(shape)
    result = targets(y, kind, 1, 4, "float32")
    check_targets(result, "float32", 1)
    np.testing.assert_array_equal(result.values, [[0], [1], [1], [0]])
    assert np.shares_memory(result.values, y) == (y.dtype == "f4")
    assert y.flags.writeable


@pytest.mark.parametrize("y", [[True, False], [[1], [0]], [1.0, 0.0], np.array([[1.0], [0.0]])])
def test_classes_take_truth_values_whole_floats_and_columns(y: Any) -> None:
    result = targets(y, "classes", 2, 2, "float32")
    check_targets(result, "float32", 2)
    np.testing.assert_array_equal(result.labels, [1, 0])


@pytest.mark.parametrize("y", [[0, 0], [[1.0], [1.0]]])
def test_classes_of_one_output(y: Any) -> None:
    check_targets(targets(y, "classes", 1, 2, "float32"), "float32", 1)


@pytest.mark.parametrize(
    "y",
    [
        np.eye(3, dtype="f4"),
        np.eye(3, dtype=int),
        np.eye(3, dtype=bool),
        [[0.2, 0.3, 0.5], [1, 0, 0], [0.3333, 0.3333, 0.3333]],
        np.asfortranarray(np.full((3, 3), 1 / 3)),
    ],
    ids=["float", "int", "bool", "probabilities", "fortran"],
)
def test_classes_take_rows_of_probabilities(y: Any) -> None:
    result = targets(y, "classes", 3, 3, "float32")
    check_targets(result, "float32", 3)
    assert len(result) == 3
    np.testing.assert_array_equal(result.values, np.asarray(y, dtype="f4"))


def test_targets_copies_nothing_that_fits() -> None:
    labels = np.array([0, 1, 2], dtype=np.int64)
    assert np.shares_memory(targets(labels, "classes", 3, 3, "float32").labels, labels)
    column = labels.reshape(3, 1)
    assert np.shares_memory(targets(column, "classes", 3, 3, "float32").labels, labels)
    assert labels.flags.writeable
    values = np.eye(3, dtype="f4")
    for kind in ("real", "counts", "classes", "probabilities", "sides"):
        assert np.shares_memory(targets(values, kind, 3, 3, "float32").values, values)
    assert values.flags.writeable


@pytest.mark.parametrize(
    ("y", "label", "row"),
    [
        ([0, 3, 5], "3", 1),
        ([0, 1, -1], "-1", 2),
        ([0.0, 1.0, 4.0], "4.0", 2),
        (np.array([0, 1, 2**64 - 1], dtype="u8"), str(2**64 - 1), 2),
        (np.array([200, 1, 2], dtype="u1"), "200", 0),
        (np.array([[0], [1], [3]]), "3", 2),
        (np.array([0, 9, 1, 8, 2])[::2][:3] + 1, "3", 2),
    ],
    ids=["above", "negative", "float", "uint64", "uint8", "column", "strided"],
)
def test_labels_out_of_range_are_refused(y: Any, label: str, row: int) -> None:
    message = (
        f"y has label {label} at row {row}, but labels must be integers from 0 to 2 for a network"
        " with 3 outputs. Number the classes first: names, y = np.unique(y, return_inverse=True)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        targets(y, "classes", 3, 3, "float32")


def test_labels_of_one_output_must_be_zero() -> None:
    with refused(ValueError, "y has label 1 at row 1, but labels must be 0 for a network with 1 o"):
        targets([0, 1], "classes", 1, 2, "float32")


@pytest.mark.parametrize("came", ["f2", "f4", ">f8", "g"])
def test_labels_must_be_whole(came: str) -> None:
    with refused(ValueError, "y has 1.5 at row 2, but class numbers must be whole."):
        targets(np.array([0, 1, 1.5, 0.5], dtype=came), "classes", 3, 4, "float32")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["real", "counts", "classes", "probabilities", "sides"])
def test_targets_names_what_is_not_finite(kind: Any, value: float) -> None:
    name = "NaN" if np.isnan(value) else "infinity"
    part = f"y has {name} at row 1 (1 non-finite value in all); every value must be"
    if kind == "classes":
        with refused(ValueError, part):
            targets([0, value, 1], kind, 2, 3, "float32")
    else:
        with refused(ValueError, part.replace("row 1", "row 1, column 0")):
            targets([0, value, 1], kind, 1, 3, "float32")
    with refused(ValueError, part.replace("row 1", "row 1, column 1")):
        targets([[0, 1], [0, value]], kind, 2, 2, "float32")


def test_targets_names_what_overflows() -> None:
    with refused(ValueError, "y has 1e+300 at row 0, column 0, which does not fit float32"):
        targets([1e300, 1.0], "real", 1, 2, "float32")


@pytest.mark.parametrize("kind", ["real", "counts", "classes", "probabilities", "sides"])
@pytest.mark.parametrize("length", [0, 9, 11])
def test_targets_refuses_another_length(kind: Any, length: int) -> None:
    message = f"X has 10 rows but y has {length}; there must be one row of y for each row of X."
    for y in (np.zeros(length), np.zeros((length, 2)), np.zeros((length, 1)).tolist() or []):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            targets(y, kind, 2, 10, "float32")


@pytest.mark.parametrize(
    ("kind", "outputs", "shape", "wanted"),
    [
        ("real", 3, (4,), "shape (4, 3), as the network has 3 outputs"),
        ("real", 3, (4, 2), "shape (4, 3), as the network has 3 outputs"),
        ("real", 1, (4, 2), "shape (4,) or (4, 1), as the network has 1 output"),
        ("real", 1, (4, 1, 1), "shape (4,) or (4, 1), as the network has 1 output"),
        ("real", 1, (), "shape (4,) or (4, 1), as the network has 1 output"),
        ("probabilities", 3, (4,), "shape (4, 3), as the network has 3 outputs"),
        ("probabilities", 1, (4, 3), "shape (4,) or (4, 1), as the network has 1 output"),
        ("counts", 3, (4,), "shape (4, 3), as the network has 3 outputs"),
        ("sides", 1, (4, 2), "shape (4,) or (4, 1), as the network has 1 output"),
        ("sides", 3, (4, 2), "shape (4,) for class numbers or shape (4, 3) for sides"),
        ("classes", 3, (4, 2), "shape (4,) for class numbers or shape (4, 3) for probabilities"),
        ("classes", 3, (4, 3, 1), "shape (4,) for class numbers or shape (4, 3) for probab"),
        ("classes", 3, (), "shape (4,) for class numbers or shape (4, 3) for probabilities"),
    ],
)
def test_targets_refuses_shapes(
    kind: Any, outputs: int, shape: tuple[int, ...], wanted: str
) -> None:
    with refused(ValueError, f"y must have {wanted}", f"got shape {shape}."):
        targets(np.zeros(shape), kind, outputs, 4, "float32")


@pytest.mark.parametrize("kind", ["classes", "probabilities"])
@pytest.mark.parametrize("value", [-0.25, 1.5, 2])
def test_probabilities_must_lie_between_zero_and_one(kind: Any, value: float) -> None:
    y = np.array([[0.5, 0.5], [1.0, 0.0], [1.0 - value, value]], dtype="f8")
    part = f"y has {y[2, 0]} at row 2, column 0, but each target must be a probability in [0, 1]."
    with refused(ValueError, part):
        targets(y, kind, 2, 3, "float32")


def test_truth_values_of_minus_one_are_refused() -> None:
    with refused(ValueError, "y has -1.0 at row 1, column 0, but each target must be a probab"):
        targets([1, -1], "probabilities", 1, 2, "float32")


@pytest.mark.parametrize(("row", "total"), [([0.5, 0.4], "0.9"), ([1.0, 1.0], "2"), ([0, 0], "0")])
def test_class_probabilities_must_sum_to_one(row: list[float], total: str) -> None:
    y = [[0.5, 0.5], [0.5, 0.5004], row, row]
    message = (
        f"y has the sum {total} at row 2, but each row must be class probabilities with the sum 1"
        " (to within 0.001)."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        targets(y, "classes", 2, 4, "float32")


@pytest.mark.parametrize("dtype", DTYPES)
def test_counts_are_numbers_of_at_least_zero(dtype: str) -> None:
    y = targets([0, 2.5, 7], "counts", 1, 3, dtype)
    check_targets(y, dtype, 1)
    assert y.values.tolist() == [[0], [2.5], [7]]
    with refused(ValueError, "y has -1.0 at row 1, column 0, but each target must be a count"):
        targets([3, -1], "counts", 1, 2, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "y",
    [
        [1, -1, 1],
        [[1.0], [-1.0], [1.0]],
        [True, False, True],
        np.array([1, 0, 1], np.uint8),
        np.array([[1.0], [0.0], [1.0]]),
    ],
)
def test_sides_become_one_and_zero(y: Any, dtype: str) -> None:
    before = np.array(y)
    found = targets(y, "sides", 1, 3, dtype)
    check_targets(found, dtype, 1)
    assert found.values.tolist() == [[1], [0], [1]]
    np.testing.assert_array_equal(y, before)


def test_sides_of_several_outputs_are_values_or_one_class() -> None:
    found = targets([[1, -1, -1], [-1, 1, 1]], "sides", 3, 2, "float32")
    assert found.values.tolist() == [[1, 0, 0], [0, 1, 1]]
    found = targets([[0, 0, 0]], "sides", 3, 1, "float32")
    assert found.values.tolist() == [[0, 0, 0]]
    for y in ([2, 0, 1], [[2], [0], [1]]):
        found = targets(y, "sides", 3, 3, "float32")
        assert found.labels.tolist() == [2, 0, 1]
        check_targets(found, "float32", 3)


@pytest.mark.parametrize(
    ("y", "came"),
    [([1, 0.5], "0.5 at row 1"), ([2, 1], "2.0 at row 0"), ([-1, 0], "0.0 at row 1")],
)
def test_other_sides_are_refused(y: Any, came: str) -> None:
    message = f"y has {came}, column 0, but the targets must be -1 and 1, or 0 and 1."
    with refused(ValueError, message):
        targets(y, "sides", 1, 2, "float32")


def test_a_target_may_go_with_several_outputs() -> None:
    for y in ([1.0, 2.0], [[1.0], [2.0]]):
        found = targets(y, "real", 2, 2, "float32", each=2)
        assert found.values.tolist() == [[1.0], [2.0]]
    found = targets([[1.0, 2.0]], "real", 4, 1, "float32", each=2)
    assert found.values.tolist() == [[1.0, 2.0]]
    message = "y must have shape (1, 2), as the network has 4 outputs, 2 for each target; got"
    with refused(ValueError, message):
        targets([[1.0, 2.0, 3.0, 4.0]], "real", 4, 1, "float32", each=2)


def test_independent_probabilities_need_no_sum() -> None:
    y = [[0.9, 0.9], [0, 0]]
    check_targets(targets(y, "probabilities", 2, 2, "float32"), "float32", 2)


@pytest.mark.parametrize("y", [["red", "blue"], np.array(["red", "blue"])])
def test_named_classes_are_told_how_to_be_numbered(y: Any) -> None:
    with refused(
        TypeError,
        "y must hold real numbers; got 'red' (str) at row 0.",
        "Number the classes first: names, y = np.unique(y, return_inverse=True).",
    ):
        targets(y, "classes", 2, 2, "float32")


def test_the_advice_for_labels_works() -> None:
    _, y = np.unique(["red", "blue", "red"], return_inverse=True)
    np.testing.assert_array_equal(targets(y, "classes", 2, 3, "float32").labels, [1, 0, 1])


# The record of targets

GIVEN = [
    targets([2, 0, 1], "classes", 3, 3, "float32"),
    targets(np.eye(3)[[2, 0, 1]], "classes", 3, 3, "float32"),
]


@pytest.mark.parametrize("given", GIVEN, ids=["labels", "values"])
def test_as_rows_is_one_hot(given: Targets) -> None:
    for dtype in DTYPES:
        rows = given.as_rows(3, dtype)
        check_fit(rows, dtype)
        np.testing.assert_array_equal(rows, np.eye(3)[[2, 0, 1]])


def test_as_rows_copies_no_fitting_values() -> None:
    assert np.shares_memory(GIVEN[1].as_rows(3, "float32"), GIVEN[1].values)


@pytest.mark.parametrize("given", GIVEN, ids=["labels", "values"])
@pytest.mark.parametrize("rows", [[0], [2, 0], [1, 1, 1, 1], []])
def test_take_chooses_rows(given: Targets, rows: list[int]) -> None:
    taken = given.take(np.array(rows, dtype=np.int64))
    check_targets(taken, "float32", 3)
    assert len(taken) == len(rows)
    np.testing.assert_array_equal(taken.as_rows(3, "float32"), given.as_rows(3, "float32")[rows])
    assert len(given) == 3


def test_targets_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        GIVEN[0].labels = np.zeros(3, dtype=np.int64)  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        GIVEN[0].labels[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        GIVEN[1].values[0] = 1


def test_targets_survive_pickling() -> None:
    again = pickle.loads(pickle.dumps(GIVEN[0]))
    np.testing.assert_array_equal(again.labels, GIVEN[0].labels)


# Sample weights


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", VECTORS)
def test_sample_weights_takes_every_form(form: str, dtype: str) -> None:
    w = VECTORS[form](np.array([2.0, 0.0, 1.0, 4.0]))
    before = fingerprint(w)
    result = sample_weights(w, 4, dtype)
    check_fit(result, dtype)
    np.testing.assert_array_equal(result, [2, 0, 1, 4])
    assert fingerprint(w) == before


def test_no_sample_weights() -> None:
    result = sample_weights(None, 4, "float32")
    check_fit(result, "float32")
    assert result.shape == (0,)


def test_sample_weights_copies_nothing_that_fits() -> None:
    w = np.ones(4, dtype="f4")
    assert np.shares_memory(sample_weights(w, 4, "float32"), w)
    assert w.flags.writeable


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1e-38, 1e-50, 1e-310, 5e-324, np.longdouble("1e-4000")])
def test_sample_weights_keeps_the_proportions_of_tiny_ones(size: Any, dtype: str) -> None:
    result = sample_weights(np.array([1, 3, 0, 2]) * size, 4, dtype)
    check_fit(result, dtype)
    if size:
        np.testing.assert_allclose(result / result[0], [1, 3, 0, 2], rtol=1e-6)
    assert (result[result > 0] >= np.finfo(dtype).tiny).all()


def test_sample_weights_leaves_others_as_they_are() -> None:
    for w in ([1, 3, 0, 2], [1e30, 1e-30, 0, 1e-37]):
        assert sample_weights(w, 4, "float32").tolist() == np.array(w, "f4").tolist()


@pytest.mark.parametrize(
    ("w", "parts"),
    [
        ([1, 2, 3], ("X has 4 rows but sample_weight has 3; there must be one row of",)),
        ([], ("X has 4 rows but sample_weight has 0;",)),
        (np.ones((4, 1)), ("sample_weight must have shape (4,); got shape (4, 1).",)),
        (1.0, ("sample_weight must have shape (4,); got shape ().",)),
        ([1, 2, -0.5, -1], ("sample_weight has -0.5 at row 2, but each", "at least 0.")),
        ([1, np.nan, 1, 1], ("sample_weight has NaN at row 1 (1 non-finite value in all);",)),
        ([1, 1, 1, np.inf], ("sample_weight has infinity at row 3 (1 non-finite",)),
        ([1, 1, 1, 1e300], ("sample_weight has 1e+300 at row 3, which does not fit float32",)),
        ([0, 0, 0, 0], ("sample_weight must have at least one weight above 0; got 4 weights of",)),
    ],
    ids=["short", "empty", "2-D", "0-D", "negative", "NaN", "inf", "overflow", "zero"],
)
def test_sample_weights_refuses(w: Any, parts: tuple[str, ...]) -> None:
    with refused(ValueError, *parts):
        sample_weights(w, 4, "float32")


# Class weights

ALIKE = np.empty(0, "f4")


def weighed(class_weight: Any, y: Any, kind: Any, outputs: int, w: Any = None) -> list[float]:
    """Lead targets and both kinds of weights through the gate."""
    wanted = targets(y, kind, outputs, len(y), "float64")
    weights = sample_weights(w, len(y), "float64")
    result = class_weights(class_weight, wanted, weights, kind, "float64")
    check_fit(result, "float64")
    return list(result)


@pytest.mark.parametrize(
    ("y", "kind", "outputs"),
    [
        ([2, 0, 1, 2], "classes", 3),
        (np.eye(3)[[2, 0, 1, 2]], "classes", 3),
        ([2, 0, 1, 2], "sides", 3),
    ],
    ids=["labels", "one-hot", "hinge"],
)
def test_a_class_has_its_factor(y: Any, kind: Any, outputs: int) -> None:
    assert weighed({0: 0.5, 2: 3}, y, kind, outputs) == [3, 0.5, 1, 3]
    assert weighed({np.int64(0): np.float32(0.5), True: 2}, y, kind, outputs) == [1, 0.5, 2, 1]
    assert weighed({0: 0.5, 2: 3}, y, kind, outputs, [1, 2, 3, 4]) == [3, 1, 3, 12]
    assert weighed({}, y, kind, outputs) == [1, 1, 1, 1]
    assert weighed({2: 0}, y, kind, outputs) == [0, 1, 1, 0]


@pytest.mark.parametrize("kind", ["probabilities", "sides"])
def test_bits_are_two_classes(kind: Any) -> None:
    assert weighed({1: 4}, [0, 1, 1], kind, 1) == [1, 4, 4]
    assert weighed({0: 3, 1: 4}, [[True], [False], [True]], kind, 1) == [4, 3, 4]


def test_the_side_minus_one_has_two_names() -> None:
    for y in ([-1, 1, -1], [0, 1, 0]):
        for label in (-1, 0):
            assert weighed({label: 3}, y, "sides", 1) == [3, 1, 3]


@pytest.mark.parametrize("kind", ["probabilities", "sides"])
def test_factors_of_several_outputs_are_multiplied(kind: Any) -> None:
    y = [[0, 1], [1, 1], [0, 0]]
    assert weighed([{1: 2}, {0: 5, 1: 3}], y, kind, 2) == [3, 6, 5]
    assert weighed(({1: 2}, {}), y, kind, 2, [1, 2, 1]) == [1, 4, 1]
    # Three to two in the first column, and one to two in the second.
    np.testing.assert_allclose(weighed("balanced", y, kind, 2), [9 / 16, 9 / 8, 9 / 8])


def test_balanced_classes_count_alike() -> None:
    y = np.array([0, 0, 0, 3, 1, 0])
    found = np.array(weighed("balanced", y, "classes", 5))
    sums = np.bincount(y, found)
    # Three classes occur; all together the examples count as before.
    np.testing.assert_allclose(sums, [2, 2, 0, 2])
    w = np.array([1, 2, 1, 4, 0, 0.5])
    sums = np.bincount(y, weighed("balanced", y, "classes", 5, w))
    np.testing.assert_allclose(sums, [w.sum() / 2, 0, 0, w.sum() / 2])
    # Examples without weight may as well not be there.
    assert weighed("balanced", y, "classes", 5, w)[:4] == pytest.approx(
        weighed("balanced", y[[0, 1, 2, 3, 5]], "classes", 5, w[[0, 1, 2, 3, 5]])[:4]
    )
    large = np.full(6, 2.5e307)
    np.testing.assert_allclose(weighed("balanced", y, "classes", 5, large), 2.5e307 * found)


def test_balanced_is_scikit_learn_s() -> None:
    compute = pytest.importorskip("sklearn.utils.class_weight").compute_class_weight
    rng = np.random.default_rng(0)
    y, w = rng.integers(0, 4, 50), rng.uniform(0.1, 3, 50)
    for weights in (None, w):
        theirs = compute("balanced", classes=np.arange(4), y=y, sample_weight=weights)[y]
        expected = theirs if weights is None else theirs * weights
        np.testing.assert_allclose(weighed("balanced", y, "classes", 4, weights), expected)
    bits = (rng.random((50, 3)) < 0.3).astype(int)
    expected = np.prod(
        [compute("balanced", classes=np.arange(2), y=column)[column] for column in bits.T], axis=0
    )
    np.testing.assert_allclose(weighed("balanced", bits, "probabilities", 3), expected)


def test_without_class_weights_nothing_is_touched() -> None:
    w = sample_weights([1, 2], 2, "float32")
    y = targets([0.5, 2.0], "real", 1, 2, "float32")
    assert class_weights(None, y, w, "real", "float32") is w


def test_class_weights_leave_what_came_alone() -> None:
    w = np.array([1.0, 2.0], "f4")
    given = {0: 2.0}
    y = targets([0, 1], "classes", 2, 2, "float32")
    class_weights(given, y, sample_weights(w, 2, "float32"), "classes", "float32")
    assert w.tolist() == [1, 2]
    assert given == {0: 2.0}


LABELS_OF_3 = ([0, 2, 1], "classes", 3)
BITS_OF_1 = ([0, 1, 1], "probabilities", 1)
BITS_OF_2 = ([[0, 1], [1, 1], [0, 0]], "probabilities", 2)


@pytest.mark.parametrize(
    ("class_weight", "y", "error", "parts"),
    [
        ({0: 1}, ([0.5, 1, 2], "real", 1), ValueError,
         ("class_weight needs a loss on classes", "sample_weight.")),
        ("balanced", ([0.5, 1, 2], "counts", 1), ValueError,
         ("class_weight needs a loss on classes",)),
        ({0: 1}, ([0, 0.5, 1], "probabilities", 1), ValueError,
         ("class_weight needs classes", "probability 0.5 at row 1, column 0")),
        ("balanced", ([[0, 1], [0.25, 0.75], [1, 0]], "classes", 2), ValueError,
         ("class_weight needs classes", "probability 0.25 at row 1, column 0")),
        ({3: 1}, LABELS_OF_3, ValueError,
         ("class_weight must have classes as keys, integers from 0 to 2; got 3 (int)",)),
        ({-1: 1}, LABELS_OF_3, ValueError, ("class_weight", "0 to 2; got -1 (int)")),
        ({-1: 1}, BITS_OF_1, ValueError, ("class_weight", "0 to 1; got -1 (int)")),
        ({"a": 1}, LABELS_OF_3, ValueError, ("class_weight", "got 'a' (str)")),
        ({0.5: 1}, LABELS_OF_3, ValueError, ("class_weight", "got 0.5 (float)")),
        ({2: 1}, ([-1, 1, 1], "sides", 1), ValueError,
         ("class_weight", "0 to 1 or -1 and 1; got 2 (int)")),
        ({-1: 1, 0: 2}, ([-1, 1, 1], "sides", 1), ValueError, ("class_weight", "got -1 (int)")),
        ({0: -1}, LABELS_OF_3, ValueError, ("class_weight[0] must be", "of at least 0", "got -1")),
        ({0: np.nan}, LABELS_OF_3, ValueError, ("class_weight[0] must be", "got nan")),
        ({0: "1"}, LABELS_OF_3, TypeError, ("class_weight[0] must be", "got '1' (str)")),
        ({0: None}, LABELS_OF_3, TypeError, ("class_weight[0] must be", "got None")),
        ("balance", LABELS_OF_3, ValueError,
         ("class_weight must be 'balanced' or a dict", "got 'balance' (str)")),
        ([1, 2, 3], LABELS_OF_3, TypeError, ("class_weight must be 'balanced' or a", "(list)")),
        ([{0: 1}], LABELS_OF_3, TypeError, ("class_weight must be 'balanced' or a", "(list)")),
        (2.0, LABELS_OF_3, TypeError, ("class_weight must be", "2.0 (float)")),
        ({0: 1}, BITS_OF_2, TypeError,
         ("class_weight must be 'balanced' or a list of 2 dicts, one an output", "(dict)")),
        ([{0: 1}], BITS_OF_2, ValueError, ("class_weight", "2 dicts", "got 1 of them.")),
        ([{0: 1}, 2], BITS_OF_2, TypeError, ("class_weight", "2 dicts", "(list)")),
        ([{0: 1}, {2: 1}], BITS_OF_2, ValueError, ("class_weight[1] must have", "got 2 (int)")),
        ([{0: 1}, {0: -1}], BITS_OF_2, ValueError, ("class_weight[1][0] must be", "got -1")),
        ({0: 0, 1: 0, 2: 0}, LABELS_OF_3, ValueError,
         ("class_weight must leave at least one example a weight above 0",)),
        ({0: 1e300}, LABELS_OF_3, ValueError,
         ("class_weight times sample_weight has", "at row 0", "float32")),
    ],
)  # fmt: skip
def test_class_weights_refuses(
    class_weight: Any, y: Any, error: type[Exception], parts: tuple[str, ...]
) -> None:
    values, kind, outputs = y
    wanted = targets(values, kind, outputs, 3, "float32")
    with refused(error, *parts):
        class_weights(class_weight, wanted, ALIKE, kind, "float32")


@pytest.mark.parametrize(
    ("class_weight", "y", "w"),
    [
        ([{0: 1e200}, {0: 1e200}], BITS_OF_2, None),
        ([{1: 0, 0: 1e300}, {0: 1e300}], BITS_OF_2, None),
        ({0: 1e300}, LABELS_OF_3, [1e10, 1, 1]),
        ({0: 1e308, 1: 1e308}, LABELS_OF_3, None),
    ],
    ids=["product", "times zero", "times a weight", "sum"],
)
def test_class_weights_that_overflow_are_refused_without_a_warning(
    class_weight: Any, y: Any, w: Any
) -> None:
    with refused(ValueError, "class_weight times sample_weight"):
        weighed(class_weight, *y, w)


def test_weights_are_refused_whose_sum_overflows() -> None:
    largest = float(np.finfo("f8").max)
    with refused(ValueError, "sample_weight must have a sum that fits float64"):
        sample_weights([largest, largest], 2, "float64")
    assert sample_weights([largest, 0], 2, "float64").tolist() == [largest, 0]
    # Sums of float32 are taken in float64.
    assert len(sample_weights(np.full(9, np.finfo("f4").max), 9, "float32")) == 9


# The fast path

F4 = np.dtype("float32")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3,), (1, 3), (5, 3)])
def test_row_or_rows_gives_back_what_came(shape: tuple[int, ...], dtype: str) -> None:
    x = np.zeros(shape, dtype=dtype)
    assert row_or_rows(x, 3, np.dtype(dtype)) is x
    x.flags.writeable = False
    assert row_or_rows(x, 3, np.dtype(dtype)) is x


def test_row_or_rows_looks_at_no_number() -> None:
    x = np.array([np.nan, np.inf, 1], dtype="f4")
    assert row_or_rows(x, 3, F4) is x


def test_row_or_rows_takes_memory_maps(tmp_path: Path) -> None:
    x = np.memmap(tmp_path / "x", dtype="f4", mode="w+", shape=(5, 3))
    for part in (x, x[0]):
        result = row_or_rows(part, 3, F4)
        assert type(result) is np.ndarray
        assert np.shares_memory(result, part)


@pytest.mark.parametrize(
    ("x", "error", "got"),
    [
        ([1.0, 2.0, 3.0], TypeError, "[1.0, 2.0, 3.0] (list)"),
        (None, TypeError, "None"),
        (np.float32(3), TypeError, "3.0 (float32)"),
        (np.ma.zeros(3, dtype="f4"), TypeError, "(MaskedArray)"),
        (np.zeros((1, 3), dtype="f4").view(np.matrix), TypeError, "(matrix)"),
        (np.zeros(3), TypeError, "dtype float64"),
        (np.zeros(3, dtype="i8"), TypeError, "dtype int64"),
        (np.zeros(3, dtype=">f4"), TypeError, "dtype >f4"),
        (np.zeros((), dtype="f4"), ValueError, "shape ()"),
        (np.zeros((1, 2, 3), dtype="f4"), ValueError, "shape (1, 2, 3)"),
        (np.zeros((0, 3), dtype="f4"), ValueError, "shape (0, 3)"),
        (np.zeros(0, dtype="f4"), ValueError, "shape (0,)"),
        (np.zeros(6, dtype="f4")[::2], ValueError, "one that is strided or not aligned"),
        (np.zeros((3, 5), dtype="f4").T, ValueError, "one that is strided or not aligned"),
        (unaligned(np.zeros(3, dtype="f4")), ValueError, "one that is strided or not aligned"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_row_or_rows_refuses(x: Any, error: type[Exception], got: str) -> None:
    wanted = "x must be a C-contiguous NumPy array of float32 and shape (3,) or (n, 3); got "
    with refused(error, wanted, got):
        row_or_rows(x, 3, F4)


@pytest.mark.parametrize(
    "x", [[1.0, 2.0, 3.0], np.zeros(3), np.zeros((3, 5), dtype="f4").T], ids=["list", "dtype", "T"]
)
def test_row_or_rows_names_the_other_way(x: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=r"net\.predict accepts any array-like\.$"):
        row_or_rows(x, 3, F4)


@pytest.mark.parametrize("shape", [(4,), (1, 4), (7, 4)])
def test_row_or_rows_refuses_another_width(shape: tuple[int, ...]) -> None:
    message = (
        "x has 4 features, but this network was built for 3: its input width is fixed; rebuild the"
        " network (or retrain a new one) for the new features."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        row_or_rows(np.zeros(shape, dtype="f4"), 3, F4)


# The caller's buffer


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(5, 2), (2,), (1, 1)])
def test_output_buffer_gives_back_what_came(shape: tuple[int, ...], dtype: str) -> None:
    out = np.full(shape, np.nan, dtype=dtype)
    assert output_buffer(out, shape, dtype) is out
    assert out.flags.writeable


def test_output_buffer_takes_memory_maps(tmp_path: Path) -> None:
    out = np.memmap(tmp_path / "out", dtype="f4", mode="w+", shape=(5, 2))
    assert output_buffer(out, (5, 2), "float32") is out


@pytest.mark.parametrize(
    ("out", "error", "got"),
    [
        ([[0.0, 0.0]], TypeError, "[[0.0, 0.0]] (list)"),
        (None, TypeError, "None"),
        (np.ma.zeros((5, 2), dtype="f4"), TypeError, "(MaskedArray)"),
        (np.zeros((5, 2)), TypeError, "dtype float64"),
        (np.zeros((5, 2), dtype=">f4"), TypeError, "dtype >f4"),
        (np.zeros((2, 5), dtype="f4"), ValueError, "shape (2, 5)"),
        (np.zeros(10, dtype="f4"), ValueError, "shape (10,)"),
        (read_only(np.zeros((5, 2), dtype="f4")), ValueError, "one that is read-only"),
        (np.zeros((2, 5), dtype="f4").T, ValueError, "one that is strided or not aligned"),
        (unaligned(np.zeros((5, 2), dtype="f4")), ValueError, "one that is strided or not aligned"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_output_buffer_refuses(out: Any, error: type[Exception], got: str) -> None:
    wanted = "out must be a writeable, C-contiguous NumPy array of float32 and shape (5, 2); got "
    with refused(error, wanted, got):
        output_buffer(out, (5, 2), "float32")


# Whatever comes.

KINDS = ["?", "i1", "u1", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">i2", ">f4", ">f8", "g"]


@st.composite
def numbers_of_any_layout(draw: Any) -> np.ndarray:
    """Draw an array of any kind of number and of up to three dimensions, however it lies."""
    dtype = np.dtype(draw(st.sampled_from(KINDS)))
    shape = draw(arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=7))
    array = draw(arrays.arrays(dtype, shape))
    for axis in range(array.ndim):
        if draw(st.booleans()):
            array = np.flip(array, axis)
    if draw(st.booleans()):
        array = np.asfortranarray(array)
    if draw(st.booleans()):
        array = array.T
    array.flags.writeable = draw(st.booleans())
    return array


@given(X=numbers_of_any_layout(), dtype=st.sampled_from(DTYPES), inputs=st.sampled_from([None, 3]))
def test_features_are_what_came_or_a_message(X: np.ndarray, dtype: str, inputs: Any) -> None:
    before, flags = X.tobytes(), str(X.flags)
    with np.errstate(all="ignore"):
        wanted = X.astype(dtype)
    fits = X.ndim == 2 and X.size and np.isfinite(wanted).all() and inputs in (None, X.shape[-1])
    if not fits:
        with pytest.raises(ValueError, match=r"^X (has|must) .*") as refused:
            features(X, dtype, inputs)
        assert len(str(refused.value)) < 500
    else:
        found = features(X, dtype, inputs)
        assert found.dtype == dtype
        assert found.flags.c_contiguous
        assert found.flags.aligned
        assert not found.flags.writeable
        assert np.array_equal(found, wanted)
        if X.dtype == dtype and X.flags.c_contiguous and X.flags.aligned:
            assert np.shares_memory(found, X)
    assert (X.tobytes(), str(X.flags)) == (before, flags)


ODDITIES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([10**400, -(10**4000), 1e400, 1e-320]),
        st.floats(),
        st.complex_numbers(),
        st.text(max_size=300),
        st.binary(max_size=300),
        st.dates(),
        st.decimals(),
        st.fractions(),
        st.just(object()),
        arrays.arrays(arrays.array_dtypes(), arrays.array_shapes(max_side=3), elements={}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.sets(st.integers(), max_size=3),
    ),
    max_leaves=12,
)
TAKEN = {
    "X": lambda value: features(value, "float32", None),
    "y": lambda value: targets(value, "classes", outputs=2, rows=2, dtype="float32"),
    "sample_weight": lambda value: sample_weights(value, rows=2, dtype="float64"),
}


@pytest.mark.parametrize("argument", TAKEN)
@given(value=ODDITIES)
def test_whatever_python_holds_is_read_or_refused_in_words(argument: str, value: Any) -> None:
    try:
        found = TAKEN[argument](value)
    except (TypeError, ValueError) as refusal:
        words = str(refusal)
        assert argument in words
        assert len(words) < 1000
    else:
        parts = [found.labels, found.values] if isinstance(found, Targets) else [found]
        assert all(np.isfinite(part).all() and not part.flags.writeable for part in parts)


# What one look lets through, what takes several, and what is refused: the same in both.
_SMALL = np.arange(6.0).reshape(3, 2)
AT_ONCE = {
    "as it is": _SMALL,
    "one row": _SMALL[:1],
    "strided": np.arange(12.0).reshape(6, 2)[::2],
    "turned": np.asfortranarray(_SMALL),
    "large": np.full((3, 2), 1e200),
    "sums that overflow": np.full((3, 2), 1.7e308),
    "NaN": np.array([[1.0, np.nan]]),
    "two infinities": np.array([[np.inf, -np.inf]]),
    "many": np.ones((5000, 2)),
    "many with NaN": np.full((5000, 2), np.nan),
    "other width": np.ones((3, 3)),
    "none": np.ones((0, 2)),
    "a vector": np.ones(2),
}


def _outcome(call):
    try:
        found = call()
    except (TypeError, ValueError) as problem:
        return type(problem), str(problem)
    arrays = (found.labels, found.values) if isinstance(found, gate.Targets) else (found,)
    return [
        (one.dtype, one.shape, one.tobytes(), one.flags.writeable, one.flags.carray)
        for one in arrays
    ]


@pytest.mark.parametrize("given", AT_ONCE)
def test_features_that_lie_as_they_should_pass_as_all_others_do(given):
    X = AT_ONCE[given]
    double = np.dtype("float64")
    found = _outcome(lambda: gate.sparse_or_dense(X, double, 2))
    assert found == _outcome(lambda: gate.features(X, double, 2))
    assert found == _outcome(lambda: gate.sparse_or_dense(X, "float64", 2))
    assert X.flags.writeable


@pytest.mark.parametrize("kind", ["real", "classes", "probabilities", "counts", "sides"])
@pytest.mark.parametrize(
    "y",
    [
        *AT_ONCE.values(),
        np.array([0, 1]),
        np.array([1, 0, 1])[::2],
        np.array([0, 2]),
        np.array([-1, 0]),
        np.array([[0], [1]]),
        np.array([0, 1], np.int32),
        np.arange(2).repeat(50),
        np.array([True, False]),
    ],
)
def test_targets_that_lie_as_they_should_pass_as_all_others_do(kind, y):
    double = np.dtype("float64")
    for outputs in (1, 2):
        asked = kind, outputs, len(y)
        found = _outcome(lambda asked=asked: gate.targets(y, *asked, double))
        assert found == _outcome(lambda asked=asked: gate.targets(y, *asked, "float64"))
        assert found == _outcome(lambda asked=asked: gate.targets(_Mine.of(y), *asked, double))
    assert y.flags.writeable


class _Mine(np.ndarray):
    """An array of a user's class, which takes every look."""

    @classmethod
    def of(cls, array):
        return array.view(cls)
