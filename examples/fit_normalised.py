"""
Layers that normalise
=====================

A deep network bears larger steps where its hidden units are kept at unit scale: over the examples
of a batch (``BatchNorm``), or over the units of each example (``LayerNorm``). The estimators take
such layers, too, by ``layers=`` in place of ``hidden_layer_sizes``.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastnn as fn

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)


def hidden(norm):
    """Return eight hidden layers: weighted sums, what keeps them in scale, a relu with slopes."""
    block = [fn.Dense(48), norm, fn.PReLU()] if norm else [fn.Dense(48), fn.PReLU()]
    return block * 8


# %%
# Three learning rates. ``standardize=True`` scales the features, the layers what is inside. Without
# them the largest rate leads nowhere; at the smallest, on so small a task, they make no difference.

norms = {"none": None, "BatchNorm": fn.BatchNorm(), "LayerNorm": fn.LayerNorm()}
rates = (0.001, 0.01, 0.05)
print(f"{'right, unseen':14}", *(f"rate {rate:5}" for rate in rates))
for name, norm in norms.items():
    scores = []
    for rate in rates:
        model = fn.MLPClassifier(
            layers=hidden(norm), standardize=True, learning_rate_init=rate, batch_size=64,
            max_iter=15, n_iter_no_change=np.inf, dtype="float32", random_state=0,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # all fifteen epochs were wanted
            scores.append(model.fit(X, y).score(X_test, y_test))
    plt.semilogx(rates, scores, "o-", label=name)
    print(f"{name:14}", *(f"{score:10.3f}" for score in scores))

plt.xlabel("learning rate")
plt.ylabel("right, of unseen digits")
plt.legend()
plt.show()
