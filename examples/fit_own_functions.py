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
rng = np.random.default_rng(0)
X = rng.uniform(-4, 4, (600, 1)).astype("float32")
y = np.sin(3 * X[:, 0]) + 0.3 * rng.normal(size=600).astype("float32")
side = np.linspace(-4, 4, 200, dtype="float32")[:, None]
# %%
# The same fit by the squared error, and by the loss above, which keeps above most of the points.

print("loss                 share of points below")
plt.scatter(X[:, 0], y, s=5, color="gray")
for one in ("mean_squared_error", loss):
    net = fn.Sequential([fn.Dense(32, activation), fn.Dense(1)], rng=0)
    net.fit(X, y, one, fn.Adam(0.01), epochs=200, schedule="cosine", progress=False)
    name = one if isinstance(one, str) else one.name
    print(f"{name:20} {np.mean(y < net.predict(X)[:, 0]):.2f}")
    plt.plot(side, net.predict(side), label=name)
plt.legend()
plt.show()
