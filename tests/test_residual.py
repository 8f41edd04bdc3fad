"""Blocks around which their input is passed: native, reference, by differences, and PyTorch's."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from cases import error

import fastnn as fn
from fastnn.kinds import from_dict, to_dict
from fastnn.layers import named, starts
from fastnn.optimizers import OPTIMIZERS
from fastnn.stacks import check_layers
from fastnn.tuning import tuning

BACKENDS = ("native", "reference")
DTYPES = ("float32", "float64")
Block = fn.Residual

STACKS = {
    "plain": [
        fn.Dense(20, "relu"), Block([fn.Dense(33, "relu"), fn.Dense(20)]), fn.Dense(3, "softmax"),
    ],
    "of features": [
        Block([fn.Dropout(0.2), fn.Dense(6, "tanh")]),
        Block([fn.LayerNorm(), fn.Dense(40, "gelu", l2=0.1), fn.Dropout(0.1), fn.Dense(6)]),
        fn.Dense(3, "softmax"),
    ],
    "within each other": [
        fn.Dense(20, "tanh"), Block([Block([fn.Dense(20, "relu")]), fn.Dense(7), fn.Dense(20),
        fn.PReLU()]), Block([Block([Block([fn.Dense(20)])])]), fn.Dense(3, "softmax"),
    ],
    "of dropouts alone": [
        fn.Dense(20, "relu"), Block([fn.Dropout(0.3)]),
        Block([Block([fn.Dropout(0.3)]), fn.Dense(2), fn.Dense(20, "softmax")]), fn.Dropout(0.2),
        Block([fn.LayerNorm(), Block([fn.PReLU(), fn.Dropout(0.1)])]), fn.Dense(3, "softmax"),
    ],
    "frozen below": [
        fn.Dense(20, "relu", trainable=False), Block([fn.Dense(20, "relu", trainable=False)]),
        Block([fn.LayerNorm(), fn.Dense(20, "relu")]), fn.Dense(3, "softmax"),
    ],
    "of standardised features": [
        fn.Standardize(), Block([fn.Dropout(0.3), fn.Dense(6, "silu", l2=0.1)]),
        Block([fn.Dense(3), fn.Dense(6, bias=False)]), fn.Dense(3, "softmax"),
    ],
    "wide": [
        fn.Dense(70, "elu"), Block([fn.Dense(70, "relu")]), Block([fn.RMSNorm(), fn.Dense(70)]),
        fn.Dense(3, "softmax"),
    ],
}  # fmt: skip


def network(stack="plain", dtype="float64", seed=0):
    """Return a network whose parameters are none of those at the start."""
    net = fn.Sequential(STACKS[stack], inputs=6, dtype=dtype, rng=seed)
    if stack == "of standardised features":
        net.adapt(examples(90)[0])
    rng = np.random.default_rng(seed)
    net.parameters[:] += 0.1 * rng.normal(size=net.parameters.size)
    return net


def examples(n=53, p=6):
    rng = np.random.default_rng(7)
    return rng.normal(size=(n, p)), rng.integers(3, size=n)


# What it is.


def test_a_block_is_its_layers():
    block = Block([fn.Dense(4), Block([fn.Dense(4)])])
    assert block == Block((fn.Dense(4), Block([fn.Dense(4)])))
    assert eval(repr(block), vars(fn) | {"Dense": fn.Dense, "Residual": Block}) == block
    assert pickle.loads(pickle.dumps(block)) == copy.deepcopy(block) == block
    assert from_dict(to_dict(block)) == block
    assert hash(block) != hash(Block([fn.Dense(4)]))


@pytest.mark.parametrize(
    ("layers", "kind", "said"),
    [
        ([], ValueError, "at least one layer; got none"),
        (fn.Dense(3), TypeError, "must be a list of layers; got Dense"),
        ("Dense", TypeError, "must be a list of layers"),
        ([3], TypeError, "must be layers; got 3"),
    ],
    ids=str,
)
def test_what_is_no_block_is_refused(layers, kind, said):
    with pytest.raises(kind, match=said):
        Block(layers)


def test_blocks_are_not_endlessly_deep():
    layer = fn.Dense(1)
    for _ in range(32):
        layer = Block([layer])
    with pytest.raises(ValueError, match="at most 32 deep"):
        Block([layer])
    plain = {"layer": "Dense", "units": 1, "activation": "relu", "bias": True,
             "initializer": "auto", "l2": 0.0}  # fmt: skip
    for _ in range(40):
        plain = {"layer": "Residual", "layers": [plain]}
    with pytest.raises(ValueError, match="at most 32 deep"):
        from_dict(plain)


def test_widths_that_differ_are_refused_as_soon_as_both_are_known():
    said = r"layers\[1\] adds its input, 4 columns, to what its layers give, 5 columns; both must"
    with pytest.raises(ValueError, match=said):
        check_layers([fn.Dense(4), Block([fn.Dense(5)]), fn.Dense(1)])
    inner = r"layers\[1\].layers\[1\] adds its input, 3 columns, to .* 1 column; both"
    with pytest.raises(ValueError, match=inner):
        check_layers([fn.Dense(4), Block([fn.Dense(3), Block([fn.Dense(1)]), fn.Dense(4)]),
                      fn.Dense(1)])  # fmt: skip
    net = fn.Sequential([Block([fn.LayerNorm(), fn.Dense(5)]), fn.Dense(1)])
    with pytest.raises(ValueError, match=r"layers\[0\] adds its input, 6 columns, to .* 5 columns"):
        net.fit(*examples())
    assert net.inputs is None
    net.fit(examples()[0][:, :5], examples()[1], epochs=1, progress=False)


def test_what_must_come_first_is_refused_inside():
    with pytest.raises(ValueError, match=r"layers\[0\].layers\[0\] is Standardize\(\), which meas"):
        fn.Sequential([Block([fn.Standardize()]), fn.Dense(1)])
    with pytest.raises(ValueError, match="must end with a Dense layer"):
        fn.Sequential([Block([fn.Dense(3)])])


def test_layers_inside_are_the_network_s():
    net = network("within each other")
    assert net.layout.names[:8] == (
        "0.W", "0.b", "1.0.0.W", "1.0.0.b", "1.1.W", "1.1.b", "1.2.W", "1.2.b"
    )  # fmt: skip
    assert [name for name, _ in named(net.layers)][:4] == ["0", "1", "1.0", "1.0.0"]
    lines = net.summary().splitlines()
    assert lines[3].split() == ["1.0", "Residual", "sum", "(n,", "20)", "0"]
    assert "  1.0.0      Dense " in lines[4]
    unknown = fn.Sequential([Block([fn.LayerNorm(), fn.Dense(2)]), fn.Dense(1)]).summary()
    assert "(n, 2)" in unknown.splitlines()[1]
    X, _ = examples()
    inner, after = net.hidden(X, "1.2"), net.hidden(X, "1.3")
    slope = net.layout.view(net.parameters, "1.3.slope")
    assert error(after, np.maximum(inner, 0) + slope * np.minimum(inner, 0)) <= 1e-12
    assert error(net.hidden(X, 1), net.hidden(X, 0) + after) <= 1e-12
    assert (net.hidden(X, "1") == net.hidden(X, 1)).all()
    assert (net.hidden(X, -1) == net.predict(X)).all()
    with pytest.raises(ValueError, match=r"layer must name a layer, one of 0, 1, 1\.0, .*'9'"):
        net.hidden(X, "9")
    dropped = network("of features")
    assert (dropped.hidden(X, "0.0") == X).all()


def test_a_block_begins_with_its_share():
    block = Block([fn.Dense(8, "relu"), fn.Dense(4)])
    found = starts([fn.Dense(4, "relu"), block, block, fn.Dense(4, "tanh"), fn.Dense(1)])
    assert [start.gain for start in found][2] == pytest.approx(2**-0.5)
    # The sum of pairs and of what is none is none.
    assert [start.reads_pairs for start in found] == [False, True, True, False, True, False, False]
    pairs = starts([fn.Dense(4, "relu"), Block([fn.Dense(4, "relu")]), fn.Dense(1)])
    assert [start.reads_pairs for start in pairs] == [False, True, True]
    assert pairs[1].gain == starts([fn.Dense(4), fn.Dense(4, "relu"), fn.Dense(1)])[1].gain


# What it computes.


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stack", STACKS)
def test_gradients_are_those_of_differences(stack, backend):
    net, (X, y) = network(stack), examples(11)
    gradient = net.loss_and_gradient(X, y, backend=backend)[1].copy()
    f, base = net.objective(X, y, backend=backend), net.parameters.copy()
    frozen = {
        place
        for one in net.layout.operations if not one.trainable
        for entry in one.parameters
        for place in range(entry.offset, entry.offset + entry.size)
    }  # fmt: skip
    places = np.unique(np.linspace(0, base.size - 1, 150).astype(int))
    places = [place for place in places if place not in frozen]
    found = []
    for place in places:
        step = np.arange(base.size) == place
        far, near = ((f(base + h * step)[0] - f(base - h * step)[0]) / (2 * h)
                     for h in (2e-5, 1e-5))  # fmt: skip
        found.append(near + (near - far) / 3)
    assert error(np.array(found), gradient[places]) < 1e-7


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stack", STACKS)
def test_native_is_the_reference_in_any_number_of_threads(stack, optimizer):
    X, y = examples(200)
    options = {
        "optimizer": OPTIMIZERS[optimizer].record(), "epochs": 2, "progress": False,
        "batch_size": 64, "clip_norm": 0.5 if optimizer in ("Adam", "SGD") else None,
    }  # fmt: skip
    net = network(stack)
    nets = [net.copy() for _ in range(4)]
    for one, threads in zip(nets, (1, 2, 3, 8), strict=True):
        one.fit(X, y, threads=threads, **options)
        assert (one.parameters == nets[0].parameters).all()
    net.fit(X, y, backend="reference", **options)
    assert error(nets[0].parameters, net.parameters) <= (1e-6 if optimizer == "Rprop" else 1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", ["plain", "within each other", "of dropouts alone"])
def test_chunks_and_groups_give_the_reference_s_gradient(stack, dtype):
    net, (X, y) = network(stack, dtype), examples(700)
    limit = 1e-12 if dtype == "float64" else 1e-4
    wanted = net.loss_and_gradient(X, y, backend="reference")
    small = {"chunk_elements": 1 << 12, "smallest_chunk": 16}
    for figures in ({}, small, small | {"fewest_groups": 10**6}):
        with tuning(**figures):
            twin = net.copy()
            found = twin.loss_and_gradient(X, y)
            assert found[0] == pytest.approx(wanted[0], rel=limit)
            assert error(found[1], wanted[1]) <= limit
            nets = [net.copy() for _ in range(3)]
            for one, threads in zip(nets, (1, 2, 3), strict=True):
                one.fit(X, y, batch_size=300, epochs=2, threads=threads, progress=False)
                assert (one.parameters == nets[0].parameters).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stack", STACKS)
def test_predictions_are_the_same_bits_however_they_are_asked_for(stack, dtype):
    net, (X, _) = network(stack, dtype), examples(300)
    X = X.astype(dtype)
    wanted = net.predict(X)
    assert error(wanted, net.predict(X, backend="reference")) <= (
        1e-12 if dtype == "float64" else 1e-5
    )
    assert (net(X) == wanted).all()
    assert (net.freeze()(X[:9]) == wanted[:9]).all()
    for n in (0, 1, 299):
        assert (net(X[n]) == wanted[n]).all()
    assert (net.hidden(X, -1) == wanted).all()


@pytest.mark.parametrize("stack", STACKS)
def test_traces_evaluations_and_reports_are_those_of_the_reference(stack):
    net, (X, y) = network(stack), examples()
    native, textbook = (net.trace(X, y, backend=backend) for backend in BACKENDS)
    for field in ("Z", "A", "dZ", "dW", "db"):
        for one, other in zip(getattr(native, field), getattr(textbook, field), strict=True):
            assert (one is None) == (other is None)
            assert one is None or error(one, other) <= 1e-11
    assert error(native.dX, textbook.dX) <= 1e-11
    step, found = 1e-6, []
    for k in range(X.shape[1]):
        moved = np.zeros_like(X)
        moved[3, k] = step
        found.append((net.evaluate(X + moved, y)["loss"] - net.evaluate(X - moved, y)["loss"])
                     / (2 * step))  # fmt: skip
    assert error(native.dX[3], np.array(found)) <= 1e-6
    for asked in ((), ("accuracy",)):
        found = [net.evaluate(X, y, metrics=asked, backend=backend) for backend in BACKENDS]
        assert found[0] == pytest.approx(found[1], rel=1e-11)
    reports = [net.diagnose(X, y, backend=backend) for backend in BACKENDS]
    assert len(reports[0].layers) == len(net.weights)
    assert reports[0].findings == reports[1].findings
    if stack == "plain":
        assert [layer.place for layer in reports[0].layers] == [0, "1.0", "1.1", 2]
        assert "1.0" in str(reports[0])


def test_a_fit_validates_measures_and_keeps_the_best():
    X, y = examples(120)
    options = {"epochs": 6, "progress": False, "metrics": "accuracy",
               "validation_data": (X[:40], y[:40])}  # fmt: skip
    net, twin = network("of features"), network("of features")
    history = net.fit(X, y, callbacks=fn.EarlyStopping(patience=2), **options)
    again = twin.fit(X, y, callbacks=fn.EarlyStopping(patience=2), backend="reference", **options)
    assert net.evaluate(X[:40], y[:40])["loss"] == pytest.approx(min(history["val_loss"]), rel=1e-9)
    for name in ("loss", "val_loss", "accuracy", "val_accuracy"):
        assert history[name] == pytest.approx(again[name], rel=1e-9)


@pytest.mark.parametrize("stack", STACKS)
def test_files_copies_and_pickles_go_on_to_the_same_bits(stack, tmp_path):
    net, (X, y) = network(stack, "float32"), examples()
    net.fit(X, y, epochs=1, progress=False)
    net.save(tmp_path / "net")
    twins = [fn.load(tmp_path / "net"), net.copy(), pickle.loads(pickle.dumps(net))]
    net.fit(X, y, epochs=2, progress=False)
    for twin in twins:
        assert twin.layers == net.layers
        twin.fit(X, y, epochs=2, progress=False)
        assert (twin.parameters == net.parameters).all()


def test_a_file_may_hold_many_blocks(tmp_path):
    block = Block([fn.Dropout(0.1), fn.Dropout(0.1), fn.Dense(2, bias=False)])
    net = fn.Sequential([*[block] * 150, fn.Dense(1)], inputs=2)
    net.save(tmp_path / "net")
    assert (fn.load(tmp_path / "net").parameters == net.parameters).all()


def test_one_step_at_a_time_is_a_fit():
    X, y = examples(32)
    net, twin = network("of features"), network("of features")
    for _ in range(3):
        net.train_on_batch(X, y)
    twin.fit(X, y, epochs=3, batch_size=32, progress=False, shuffle=False)
    assert error(net.parameters, twin.parameters) <= 1e-12


def test_sparse_examples_are_read_by_a_dense_layer_before_it():
    sparse = pytest.importorskip("scipy.sparse")
    X, y = examples(80)
    X = np.where(np.abs(X) > 0.7, X, 0.0)
    nets = [network(), network()]
    for net, given in zip(nets, (X, sparse.csr_array(X)), strict=True):
        net.fit(given, y, epochs=3, progress=False, metrics="accuracy", validation_fraction=0.2)
    assert (nets[0].parameters == nets[1].parameters).all()
    given = sparse.csr_array(X)
    assert error(nets[0].predict(given), nets[0].predict(X)) <= 1e-12
    assert nets[0].evaluate(given, y) == pytest.approx(nets[0].evaluate(X, y), rel=1e-12)
    with pytest.raises(ValueError, match=r"X must be dense .* got a sparse matrix, and Residual"):
        network("of features").predict(given)


def test_errors_name_layers_inside():
    net, (X, y) = network("wide"), examples()
    net.layout.view(net.parameters, "2.1.W")[:] = 1e308
    with pytest.raises(fn.DivergenceError, match=r"sums Z of layer 2\.1 \(Dense") as caught:
        net.fit(X, y, progress=False)
    assert caught.value.layer == "layer 2.1"


# PyTorch's.


def test_it_is_pytorch_s():
    torch = pytest.importorskip("torch")
    X, _ = examples(40, 6)
    X = X.astype(np.float32)
    block = Block([fn.LayerNorm(), fn.Dense(20, "relu"), Block([fn.Dense(20, "tanh")]),
                   fn.Dense(30)])  # fmt: skip
    net = fn.Sequential([fn.Dense(30, "tanh"), block, fn.Dense(3)], inputs=6, rng=3)
    targets = np.random.default_rng(1).normal(size=(40, 3)).astype(np.float32)
    modules = {
        "0": torch.nn.Linear(6, 30), "1.0": torch.nn.LayerNorm(30),
        "1.1": torch.nn.Linear(30, 20), "1.2.0": torch.nn.Linear(20, 20),
        "1.3": torch.nn.Linear(20, 30), "2": torch.nn.Linear(30, 3),
    }  # fmt: skip
    pairs = []
    for name, module in modules.items():
        own = ("scale", "shift") if name == "1.0" else ("W", "b")
        pairs += zip((f"{name}.{one}" for one in own), (module.weight, module.bias), strict=True)
    with torch.no_grad():
        for name, parameter in pairs:
            parameter.copy_(torch.from_numpy(net.layout.view(net.parameters, name).T.copy()))
    a = torch.tanh(modules["0"](torch.from_numpy(X)))
    b = torch.relu(modules["1.1"](modules["1.0"](a)))
    b = b + torch.tanh(modules["1.2.0"](b))
    predicted = modules["2"](a + modules["1.3"](b))
    assert np.abs(net.predict(X) - predicted.detach().numpy()).max() <= 1e-5
    loss = torch.nn.functional.mse_loss(predicted, torch.from_numpy(targets))
    loss.backward()
    value, gradient = net.loss_and_gradient(X, targets)
    assert value == pytest.approx(loss.item(), rel=1e-5)
    for name, parameter in pairs:
        found = net.layout.view(gradient, name)
        assert np.abs(found - parameter.grad.numpy().T).max() <= 1e-5
