"""
An activation and a loss of your own
====================================

Two Python functions of numbers each: the value and its derivative, which is checked against
differences when the pair is made. They are compiled once, run as fast as a built-in, and have a
name, by which layers and files know them.
"""

import math

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook

import fastnn as fn


def snake(z):
    return z + math.sin(2 * z) ** 2 / 2


def snake_slope(z):
    return 1 + math.sin(4 * z)


def late(prediction, target):  # Too low costs five times as much as too high.
    error = prediction - target
    return error * error if error > 0 else 5 * error * error


def late_slope(prediction, target):
    error = prediction - target
    return 2 * error if error > 0 else 10 * error


activation = fn.CustomActivation(snake, snake_slope)
loss = fn.CustomLoss(late, late_slope)
# %%
# How many shares will be traded, in millions, after so many yesterday? Who has to be ready for them
# would rather guess too high. The same fit by the squared error, and by the loss above.

volume = cbook.get_sample_data("goog.npz")["price_data"]["volume"][-400:] / 1e6
X, y = volume[:-1, None], volume[1:]
side = np.linspace(X.min(), X.max(), 200)[:, None]
print("loss                 share of days below")
plt.scatter(X[:, 0], y, s=5, color="gray")
for one in ("mean_squared_error", loss):
    layers = [fn.Standardize(), fn.Dense(16, activation), fn.Dense(1)]
    net = fn.Sequential(layers, scale_targets=True, rng=0)
    net.fit(X, y, one, fn.Adam(0.01), epochs=100, schedule="cosine", progress=False)
    name = one if isinstance(one, str) else one.name
    print(f"{name:20} {np.mean(y < net.predict(X)[:, 0]):.2f}")
    plt.plot(side, net.predict(side), label=name)
plt.xlabel("millions of shares yesterday")
plt.ylabel("today")
plt.legend()
plt.show()
