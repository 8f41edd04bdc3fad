"""
Data that stays on the disk
===========================

A table that is too long for memory is written once, as plain float32, and then read in two ways:
as a memory map, and in blocks that a function gives. Here it is handwritten digits, moved about by
a pixel in every direction.
"""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import fastnn as fn

images, digits = load_digits(return_X_y=True)
images = images.reshape(-1, 8, 8) / 16
order = np.random.default_rng(0).permutation(len(images))
train, test = order[:1400], order[1400:]
folder = Path(tempfile.mkdtemp())

# %%
# It is written part by part, each well mixed, as rows of blocks are shuffled among neighbours.

rows = 9 * len(train)
X = np.lib.format.open_memmap(folder / "X.npy", "w+", np.float32, (rows, 64))
y = np.lib.format.open_memmap(folder / "y.npy", "w+", np.int64, (rows,))
for part in np.split(np.arange(rows), 9):
    moves = np.random.default_rng(part[0]).integers(-1, 2, (len(train), 2))
    moved = [np.roll(images[row], move, (0, 1)) for row, move in zip(train, moves, strict=True)]
    X[part] = np.reshape(moved, (-1, 64))
    y[part] = digits[train]
X.flush()
y.flush()

# %%
# A memory map goes into ``fit`` as it is; rows are read from the file as steps need them.

X, y = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in "Xy")
layers = [fn.Dense(64, "relu"), fn.Dense(10, "softmax")]
given = {"epochs": 8, "metrics": "accuracy", "progress": False}
given["validation_data"] = images[test].reshape(-1, 64), digits[test]
mapped = fn.Sequential(layers).fit(X, y, **given)

# %%
# Blocks come from anywhere: several files, a database, a generator that makes them up. The function
# is called once per epoch.


def read():
    for start in range(0, rows, 1000):
        yield X[start : start + 1000], y[start : start + 1000]


blocks = fn.Sequential(layers).fit(fn.Blocks(read, rows, window=4096), **given)
for name, history in (("memory map", mapped), ("blocks", blocks)):
    print(f"{name:10}  accuracy on new images {history['val_accuracy'][-1]:.3f}")
