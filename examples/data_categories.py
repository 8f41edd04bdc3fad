"""
Categories
==========

Which letter comes next? A letter is a category: it has a number, but b is not between a and c in
any way that helps. `fastnn.Embedding` learns a vector for each letter, and what letters have in
common can then be seen. The text is what scikit-learn tells of its data sets.
"""

import re
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn

pages = sorted(files("sklearn.datasets.descr").iterdir(), key=lambda page: page.name)
text = " ".join(page.read_text("utf-8") for page in pages if page.name.endswith(".rst"))
text = re.sub("[^a-z]+", " ", text.lower())
ALPHABET = " abcdefghijklmnopqrstuvwxyz"
codes = np.array([ALPHABET.index(letter) for letter in text])
# %%
# Codes are whole numbers from 0, in columns that may stand among others: here the five letters
# before the one that is asked for. The last fifth of the text is not trained on.
BEFORE = 5
X = np.lib.stride_tricks.sliding_window_view(codes, BEFORE)[:-1].astype("float32")
y = codes[BEFORE:]
cut = len(X) * 4 // 5


def error(first):
    net = fn.Sequential([first, fn.Dense(96, "relu"), fn.Dense(27, "softmax")], rng=0)
    net.fit(X[:cut], y[:cut], epochs=8, batch_size=128, schedule="cosine",
            optimizer=fn.Adam(0.003), progress=False)  # fmt: skip
    told = net.evaluate(X[cut:], y[cut:], metrics="accuracy")
    return net, told["loss"] / np.log(2), told["accuracy"]


often = np.bincount(y[:cut], minlength=27) / cut
net, *embedded = error(fn.Embedding(dict.fromkeys(range(BEFORE), 27), 8))
told = {
    "how often each comes": (-np.log2(often[y[cut:]]).mean(), np.mean(y[cut:] == 0)),
    "codes as numbers": error(fn.Standardize())[1:],
    "embedded": embedded,
}
print(f"{'':20} bits per letter  right")
for name, (bits, right) in told.items():
    print(f"{name:20} {bits:15.2f} {right:6.2f}")
# %%
# The vectors of the letter right before, in their two main directions: vowels, after which other
# letters come, lie apart from consonants, though nobody told the network of either.

vectors = net.layout.view(net.parameters, f"0.table_{BEFORE - 1}")[1:]
centred = vectors - vectors.mean(axis=0)
places = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
plt.scatter(*places.T, alpha=0)
for place, letter in zip(places, ALPHABET[1:], strict=True):
    plt.text(*place, letter, color="C3" if letter in "aeiou" else "C0", size=14)
plt.show()
