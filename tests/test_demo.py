from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import fastnn as fn
from fastnn import __main__ as command_line
from fastnn import demo

PNG = b"\x89PNG\r\n\x1a\n"
COMMAND = [sys.executable, "-m", "fastnn"]
GOOD_ENOUGH = 0.975


@pytest.fixture
def picture(tmp_path):
    return tmp_path / "digits.png"


def test_the_demo_reads_digits_and_draws(picture, capsys):
    outcome = demo.run(picture, compare=False)
    assert outcome.accuracy >= GOOD_ENOUGH
    assert outcome.seconds > 0
    assert outcome.picture == picture
    content = picture.read_bytes()
    assert content.startswith(PNG)
    # Width and height stand in the first chunk.
    assert int.from_bytes(content[16:20], "big") == 1920
    assert int.from_bytes(content[20:24], "big") == 1080
    shown = capsys.readouterr()
    assert f"{outcome.accuracy:.2%}" in shown.out
    assert f"Picture: {picture}" in shown.out
    assert "scikit-learn " not in shown.out
    assert "val_accuracy" in shown.err


@pytest.mark.slow
def test_every_seed_reads_well(picture):
    """Each has 360 images of its own to read: at 98.5 % two of three are within 0.6 % of that."""
    found = [demo.run(picture, seed=seed, compare=False).accuracy for seed in range(30)]
    assert np.mean(found) >= GOOD_ENOUGH + 0.005
    assert min(found) >= GOOD_ENOUGH - 0.01


def test_the_same_job_is_given_to_scikit_learn(picture, capsys, monkeypatch):
    from sklearn.neural_network import MLPClassifier

    jobs = []

    def fit(self, X, y):
        jobs.append((self.get_params(), X, y))
        return original(self, X, y)

    original = MLPClassifier.fit
    monkeypatch.setattr(MLPClassifier, "fit", fit)
    ours = []

    def our_fit(self, X, y, **how):
        ours.append((X, y, how))
        return our_original(self, X, y, **how)

    our_original = fn.Sequential.fit
    monkeypatch.setattr(fn.Sequential, "fit", our_fit)

    outcome = demo.run(picture, epochs=2)
    [(parameters, X, y)] = jobs
    X_ours, y_ours, how = ours[-1]
    assert X is X_ours
    assert y is y_ours
    assert X.dtype == np.float32
    assert parameters["max_iter"] == outcome.epochs == 2
    assert parameters["batch_size"] == how["batch_size"]
    assert parameters["learning_rate_init"] == how["optimizer"].learning_rate
    assert parameters["beta_1"] == how["optimizer"].beta_1
    assert parameters["beta_2"] == how["optimizer"].beta_2
    assert parameters["epsilon"] == how["optimizer"].epsilon
    assert outcome.sklearn_accuracy > 0.9
    assert f"{outcome.sklearn_accuracy:.2%}" in capsys.readouterr().out


def test_parts_have_no_image_in_common():
    digits = demo._load(seed=0)
    parts = (digits.X, digits.X_validation, digits.X_test)
    images = [{row.tobytes() for row in part} for part in parts]
    assert [len(part) for part in parts] == [1293, 144, 360]
    assert not images[0] & images[2]
    assert not images[0] & images[1]
    assert not images[1] & images[2]
    assert all(part.min() == 0 and part.max() == 1 for part in parts)


def test_moved_images_are_means_of_neighbours():
    digits = demo._load(seed=0)
    X, y = demo._moved(digits)
    count = len(digits.y)
    assert X.shape == (9 * count, 64)
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X[:count], digits.X)
    np.testing.assert_array_equal(y.reshape(9, count), np.tile(digits.y, (9, 1)))
    # The last version is moved down and to the right, by half a pixel each.
    image = np.pad(digits.X[0].reshape(8, 8), ((1, 0), (1, 0)))
    expected = (image[1:, 1:] + image[:-1, 1:] + image[1:, :-1] + image[:-1, :-1]) / 4
    np.testing.assert_allclose(X[8 * count].reshape(8, 8), expected, rtol=1e-6)


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("wrong", [0, 5, 360])
def test_any_outcome_can_be_drawn(epochs, wrong, picture):
    digits = demo._load(seed=0)
    predicted = digits.y_test.copy()
    predicted[:wrong] = (predicted[:wrong] + 1) % 10
    history = fn.History()
    for epoch in range(epochs):
        names = ("loss", "val_loss", "accuracy", "val_accuracy")
        history.append(dict.fromkeys(names, 0.5 / (epoch + 1)))
    history.best_epoch = 1
    figure = demo._draw(digits, predicted, history, "what was done")
    texts = [text.get_text() for axes in figure.axes for text in [axes.xaxis.label]]
    assert sum(", is " in text for text in texts) == min(wrong, 40)
    assert figure.texts[0].get_text().startswith(f"{1 - wrong / 360:.1%} of 360 held-out")
    figure.savefig(picture)
    assert picture.read_bytes().startswith(PNG)


def test_the_command_passes_its_options_on(picture, monkeypatch):
    asked = []
    monkeypatch.setattr(demo, "run", lambda output, **how: asked.append((output, how)))
    options = ["--epochs", "3", "--seed", "7", "--no-compare", "--backend", "reference"]
    assert command_line.main(["demo", "--output", str(picture), *options]) == 0
    assert asked == [
        (picture, {"epochs": 3, "seed": 7, "compare": False, "backend": "reference"})
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--epochs", "0"], "--epochs: must be a whole number from 1"),
        (["--epochs", "ten"], "got 'ten'"),
        (["--seed", "-1"], "--seed: must be a whole number from 0"),
        (["--seed", str(2**32)], "--seed: must be a whole number from 0 to 4294967295"),
        (["--output", "digits.bmp"], "must end in one of .png, .pdf, .svg; got 'digits.bmp'"),
        (["--output", "nowhere/digits.png"], "there is no folder 'nowhere'"),
        (["--backend", "cuda"], "invalid choice: 'cuda'"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_runs(options, complaint, capsys, monkeypatch):
    monkeypatch.setattr(demo, "run", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(SystemExit) as stop:
        command_line.main(["demo", *options])
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


def test_without_a_command_there_is_help(capsys):
    assert command_line.main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "demo" in shown.err
    assert "info" in shown.err


@pytest.mark.parametrize(
    ("missing", "names"),
    [
        (("sklearn", "matplotlib"), "scikit-learn and matplotlib"),
        (("matplotlib",), "matplotlib"),
    ],
)
def test_a_missing_extra_is_one_clear_line(missing, names, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for module in missing:
        monkeypatch.setitem(sys.modules, module, None)
    assert command_line.main(["demo"]) == 1
    shown = capsys.readouterr()
    command = f"python -m pip install {names.replace(' and', '')}"
    assert shown.out == ""
    assert shown.err == f"python -m fastnn: the demo needs {names}: {command}\n"
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_written_is_one_clear_line(picture, capsys):
    picture.mkdir()
    assert command_line.main(["demo", "--epochs", "1", "--no-compare", "--output", str(picture)])
    assert str(picture) in capsys.readouterr().err.splitlines()[-1]


def test_an_interruption_is_no_traceback(capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "run", interrupted)
    assert command_line.main(["demo"]) == 130
    assert capsys.readouterr().err == "\ninterrupted\n"


@pytest.mark.skipif(os.name == "nt", reason="a process cannot send Ctrl-C to another here")
def test_ctrl_c_while_it_trains_ends_the_command(picture):
    with subprocess.Popen(
        [*COMMAND, "demo", "--epochs", "1000000", "--seed", "1", "--output", str(picture)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # The first line of progress says that it trains.
        assert "epoch" in process.stderr.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
        took = time.monotonic() - began
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "Warning" not in rest
    assert rest.endswith("interrupted\n")
    assert took < 5
    assert not picture.exists()
