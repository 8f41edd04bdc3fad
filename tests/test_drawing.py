"""Pictures and tables of networks, histories and diagnoses: valid, escaped, and true."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import fastnn as fn
from fastnn import Dense, Sequential
from fastnn.history import History
from fastnn.reporting.drawing import history_html

SVG = "{http://www.w3.org/2000/svg}"


def texts(picture):
    return [one.text for one in ET.fromstring(picture).iter(f"{SVG}text")]


def wide(picture):
    boxes = [one for one in ET.fromstring(picture).iter(f"{SVG}rect") if one.get("rx") == "5"]
    return [float(box.get("width")) for box in boxes]


def test_a_diagram_shows_every_layer_from_the_inputs_down():
    net = Sequential(
        [fn.Standardize(), Dense(64, "relu"), fn.Dropout(0.2), Dense(3, "softmax")], inputs=10
    )
    said = texts(net.diagram())
    assert said[0] == "10 inputs"
    heads = [one for one in said if "·" in one or one in ("Standardize", "Dropout")]
    assert [head.split(" ")[0] for head in heads] == ["Standardize", "Dense", "Dropout", "Dense"]
    assert "64 outputs, 704 parameters" in said
    assert said[-1] == net.summary().splitlines()[-1]
    boxes = wide(net.diagram())
    assert len(boxes) == 4
    assert boxes[1] == boxes[2] == max(boxes)
    assert boxes[3] == min(boxes)


def test_a_diagram_of_a_network_without_weights_says_what_is_not_known():
    net = Sequential([Dense(4, "tanh"), Dense(1)])
    said = texts(net.diagram())
    assert said[0] == "inputs"
    assert "4 outputs" in said
    assert "taken from X at the first fit" in said[-1]


@pytest.mark.parametrize("count", [25, 26, 500])
def test_a_diagram_of_many_layers_stays_small(count):
    net = Sequential([*[Dense(3, "relu")] * (count - 1), Dense(2)], inputs=4)
    picture = net.diagram()
    assert len(wide(picture)) == (25 if count == 25 else 24)
    assert (f"{count - 24} more layers" in texts(picture)) == (count > 25)
    assert len(picture) < 20_000


def test_a_diagram_needs_nothing_from_elsewhere_and_suits_dark_surroundings():
    picture = Sequential([Dense(1)], inputs=1).diagram()
    assert "prefers-color-scheme:dark" in picture
    assert not re.search(r"href|src=|url\(", picture)
    assert re.findall(r'"(https?:[^"]*)"', picture) == ["http://www.w3.org/2000/svg"]
    assert picture._repr_svg_() == picture
    # Every class of colour that is used is defined.
    used = set(re.findall(r'class="([^"]+)"', picture))
    assert used <= set(re.findall(r"\.(fastnn-[a-z-]+)\{", picture))


def test_what_users_name_is_escaped():
    def metric(targets, predictions):
        return 1.0

    metric.__name__ = "<b>&\x00"
    net = Sequential([Dense(1)], inputs=1)
    history = net.fit([[1.0], [2.0]], [1.0, 2.0], epochs=3, metrics=metric, progress=False)
    html = history._repr_html_()
    ET.fromstring(html)
    assert "<b>" not in html
    assert "&lt;b&gt;&amp;?" in html


@pytest.mark.parametrize(
    "values",
    [[], [0.5], [0.5, 0.25], [np.nan, np.nan], [1.0, np.nan, np.inf, 0.5], [1.0, 1.0],
     [-1e308, 1e308]],
)  # fmt: skip
def test_a_history_shows_its_curve_and_its_last_values(values):
    history = History(["loss", "val_loss"])
    history.extend((value, 2.0) for value in values)
    root = ET.fromstring(history_html(history))
    lines = list(root.iter(f"{SVG}polyline"))
    shown = len(values) > 1
    assert len(lines) == shown * (1 + np.isfinite(values).any())
    for line in lines:
        points = np.array([point.split(",") for point in line.get("points").split()], float)
        assert np.isfinite(points).all()
        assert (points >= 0.0).all()
        assert (points <= (300.0, 120.0)).all()
    if shown and np.isfinite(values).all():
        heights = np.array([point.split(",")[1] for point in lines[0].get("points").split()], float)
        # Downward in the picture is smaller.
        assert (np.diff(heights) >= 0.0).tolist() == (
            np.diff(np.array(values) / 2.0) <= 0.0
        ).tolist()
    cells = [cell.text for cell in root.iter("td")]
    assert cells[:2] == ["epoch", str(len(values))]


def test_a_long_history_is_drawn_with_few_points():
    history = History(["loss"])
    history.extend([1.0 / n] for n in range(1, 100_001))
    assert len(history._repr_html_()) < 20_000


def test_a_diagnosis_shows_its_findings_and_its_numbers():
    net = Sequential([Dense(4, "relu"), Dense(1)], inputs=1)
    net.biases[0][:] = -100
    report = net.diagnose([[0.5], [1.0]], [1.0, 2.0])
    root = ET.fromstring(report._repr_html_())
    assert [one.text for one in root.iter("li")] == list(report.findings)
    rows = [[cell.text for cell in row] for row in root.iter("tr")]
    assert [row[0] for row in rows] == ["layer", "0", "1"]
    assert rows[1][2] == "relu"
    assert str(report).splitlines()[1].split() == rows[0]


def test_a_network_shows_its_diagram():
    net = Sequential([Dense(1)], inputs=1)
    assert ET.fromstring(net._repr_html_()).find(f"{SVG}svg") is not None


# What matplotlib draws.


def test_a_history_is_plotted():
    pytest.importorskip("matplotlib")
    net = Sequential([Dense(3, "softmax")], inputs=2)
    X, y = np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 3
    history = net.fit(
        X, y, epochs=4, metrics=["accuracy", "f1"], validation_fraction=0.2, progress=False,
        callbacks=fn.EarlyStopping(patience=9),
    )  # fmt: skip
    figure = history.plot()
    assert [ax.get_title() for ax in figure.axes] == ["loss", "accuracy", "f1"]
    for ax, name in zip(figure.axes, ("loss", "accuracy", "f1"), strict=True):
        lines = {line.get_label(): line for line in ax.get_lines()}
        assert lines["training"].get_xdata().tolist() == [1, 2, 3, 4]
        assert list(lines["training"].get_ydata()) == history[name]
        assert list(lines["validation"].get_ydata()) == history[f"val_{name}"]
        assert list(lines["best epoch"].get_xdata()) == [history.best_epoch] * 2
    figure.canvas.draw()
    assert len(History().plot().axes) == 1


def test_decisions_are_drawn_over_the_plane():
    pytest.importorskip("matplotlib")
    X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 1.0]])
    three = Sequential([Dense(3, "softmax")], inputs=2)
    three.classes = ["a", "b", "c"]
    ax = three.plot_decision(X, [0, 1, 1])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    low, high = ax.get_xlim()
    assert low <= 0.0
    assert high >= 4.0
    one = Sequential([Dense(1, "sigmoid")], inputs=2)
    ax = one.plot_decision(X, [0, 1, 1])
    points = [part.get_offsets() for part in ax.collections if len(part.get_offsets()) == 1]
    assert [[0.0, 1.0]] in [one.tolist() for one in points]
    number = Sequential([Dense(1)], inputs=2)
    ax = number.plot_decision(np.ones((2, 2)), [0.5, 1.5])
    ax.figure.canvas.draw()
    assert len(ax.figure.axes) == 2


def test_planes_are_of_two_features_and_one_answer():
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="needs two features; this network has 3"):
        Sequential([Dense(1)], inputs=3).plot_decision(np.ones((2, 3)), [1.0, 2.0])
    with pytest.raises(ValueError, match="2 outputs of identity"):
        Sequential([Dense(2)], inputs=2).plot_decision(np.ones((2, 2)), np.ones((2, 2)))


def test_a_history_becomes_a_frame():
    pandas = pytest.importorskip("pandas")
    history = History(["loss", "val_loss"])
    history.append({"loss": 0.5, "val_loss": 0.75})
    history.append({"loss": 0.25, "val_loss": 0.5})
    frame = history.to_frame()
    assert frame.index.tolist() == [1, 2]
    assert frame["loss"].tolist() == pandas.DataFrame(history)["loss"].tolist() == [0.5, 0.25]
    history.learning_rates = [0.1, 0.05]
    assert history.to_frame()["learning_rate"].tolist() == [0.1, 0.05]
