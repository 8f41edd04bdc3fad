"""
Data that arrives bit by bit
============================

Examples come in portions, and none is kept. ``partial_fit`` takes a step on each portion and keeps
the optimizer's state between two of them. Before it learns a portion the model is asked about it:
the share that it gets right is an honest score (*prequential* evaluation).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

from fastnn import MLPClassifier

X, y = load_digits(return_X_y=True)
X = X / 16
order = np.random.default_rng(0).permutation(len(X))

# %%
# After half of the stream the labels change: 0 and 1 are exchanged. A model that keeps learning
# recovers.

portions = np.array_split(order, 90)
models = {
    "network": MLPClassifier(64, learning_rate_init=0.01, random_state=0),
    "linear": SGDClassifier(random_state=0),
}
scores = {name: [] for name in models}
for number, rows in enumerate(portions):
    labels = y[rows].copy()
    if number >= 45:
        labels[y[rows] == 0], labels[y[rows] == 1] = 1, 0
    for name, model in models.items():
        if number:
            scores[name].append(model.score(X[rows], labels))
        model.partial_fit(X[rows], labels, classes=np.arange(10))

print("portions of 20   first ten  before  after  at the end")
for name, of in scores.items():
    parts = (of[:10], of[34:44], of[44:54], of[-10:])
    print(f"{name:16}", *(f"{np.mean(part):8.2f}" for part in parts))

for name, of in scores.items():
    plt.plot(np.convolve(of, np.ones(8) / 8, "valid"), label=name)
plt.axvline(45 - 8, color="gray", ls=":", label="labels change")
plt.xlabel("portion")
plt.ylabel("right, mean of eight portions")
plt.legend()
plt.show()
