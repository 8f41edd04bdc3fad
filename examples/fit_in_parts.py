"""
A batch in parts
================

A batch that is too large for one machine, or lies in several places, is divided: each part gives
its gradient, the gradients are added up, and one step is taken by the sum. ``loss_and_gradient``
gives them, ``apply_gradient`` takes the step, with any optimizer.
"""

import itertools
from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastnn as fn

X, y = load_digits(return_X_y=True)
X = X / 16
layers = [fn.Dense(32, "relu"), fn.Dense(10, "softmax")]
net = fn.Sequential(layers, inputs=64, dtype="float64", rng=0)
whole = net.copy()

# %%
# Four holders of examples, of different numbers of them, in four threads here. None shows its
# examples to the others: what is sent is a gradient, weighted by the number of examples.

bounds = [0, 200, 600, 1000, len(X)]
parts = [slice(*pair) for pair in itertools.pairwise(bounds)]
sizes = np.diff(bounds)
optimizer, losses = fn.Adam(0.01), []
holders = [net.copy() for _ in parts]


def asked(holder, rows):
    holder.parameters = net.parameters
    return holder.loss_and_gradient(X[rows], y[rows])


with ThreadPoolExecutor() as pool:
    for _ in range(60):
        told, gradients = zip(*pool.map(asked, holders, parts), strict=True)
        losses.append(np.average(told, weights=sizes))
        gradient = np.average(gradients, axis=0, weights=sizes)
        net.apply_gradient(gradient, optimizer)

# %%
# It is the fit that has all examples in one batch, but for rounding.

history = whole.fit(X, y, optimizer=optimizer, epochs=60, batch_size=len(X), progress=False)
print(f"largest difference of a weight: {np.abs(net.parameters - whole.parameters).max():.0e}")

plt.plot(history["loss"], lw=5, alpha=0.4, label="all examples in one place")
plt.plot(losses, color="black", lw=1, label="in four parts")
plt.xlabel("step")
plt.ylabel("loss")
plt.legend()
plt.show()
