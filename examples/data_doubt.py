"""
When to ask somebody
====================

A network that is unsure can hand an example to a person. How sure it is tell the layers of dropout,
left on while it predicts (Monte Carlo dropout, Gal & Ghahramani 2016): a hundred answers, each of
other units, whose spread is large where they disagree.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastnn as fn

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = X[:600] / 16, X[600:] / 16, y[:600], y[600:]
layers = [fn.Dense(128, "relu"), fn.Dropout(0.4), fn.Dense(64, "relu"), fn.Dropout(0.4)]
net = fn.Sequential([*layers, fn.Dense(10, "softmax")], rng=0)
net.fit(X, y, epochs=60, progress=False)

# %%
# ``predict(X, dropout=True)`` gives the mean of the answers and their spread, the standard
# deviation. The later digits are by other writers than the first 600.

found = net.predict(X_test, dropout=True, samples=100, rng=0)
answer = found.mean.argmax(axis=1)
right = answer == y_test
doubt = np.take_along_axis(found.spread, answer[:, None], axis=1)[:, 0]

order = doubt.argsort()
print("digits that are answered   right")
for share in (0.5, 0.7, 0.8, 0.9, 1.0):
    kept = order[: int(share * len(order))]
    print(f"{share:24.0%} {right[kept].mean():7.3f}")

# %%
# The digits of which it is least sure, with its answer and the truth.

figure, axes = plt.subplots(2, 6, figsize=(8, 3.2))
for axis, place in zip(axes.flat, order[::-1], strict=False):
    axis.imshow(X_test[place].reshape(8, 8), cmap="gray_r")
    axis.set_title(f"says {answer[place]}, is {y_test[place]}", size=9)
    axis.set_axis_off()
plt.tight_layout()
plt.show()
