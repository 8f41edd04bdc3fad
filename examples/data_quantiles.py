"""
How sure is it? Quantiles and spreads
=====================================

One number hides how far off it may be. Two ways to tell: a network whose outputs are quantiles,
by a loss that punishes errors on one side more than on the other, or one that learns mean and
spread together (``gaussian_nll``). The data are daily ranges of a share's price.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook

import fastnn as fn

table = cbook.get_sample_data("goog.npz")["price_data"]
spread = np.log(table["high"] / table["low"]) * 100  # in percent
past = np.lib.stride_tricks.sliding_window_view(spread, 10)[:-1].mean(axis=1)
X, y = past[:, None], spread[10:]
train = np.arange(len(X)) % 4 > 0


def network(outputs, last="identity"):
    layers = [fn.Standardize(), fn.Dense(16, "tanh"), fn.Dense(outputs, last)]
    return fn.Sequential(layers, dtype="float64")


settings = {"epochs": 150, "optimizer": fn.Adam(0.005), "schedule": "cosine", "progress": False}
side = np.linspace(X.min(), X.max(), 100)[:, None]
# %%
# A tenth of the days shall lie below the lower line and a tenth above the upper one. Each unit of
# an "increasing" layer adds to the one before, so that no two lines can cross.

quantiles = [0.1, 0.5, 0.9]
net = network(3, "increasing")
net.fit(X[train], y[train], loss=fn.Quantiles(quantiles), **settings)
print("quantile  share of unseen days below")
for n, quantile in enumerate(quantiles):
    print(f"{quantile:8}  {np.mean(y[~train] < net.predict(X[~train])[:, n]):.2f}")
lines = net.predict(side)

# %%
# The other way: outputs are the mean and the logarithm of the variance. It assumes a bell curve. A
# few very wide days make it wide, so that more than 80 % of the days lie within its 80 %.

net = network(2)
net.fit(X[train], y[train], loss="gaussian_nll", **settings)
mean, log_variance = net.predict(X[~train]).T
inside = np.abs(y[~train] - mean) < 1.2816 * np.exp(log_variance / 2)
print(f"within the 80 % of a bell curve: {inside.mean():.2f}")

plt.scatter(X[:, 0], y, s=5, color="gray")
plt.plot(side, lines, label=[f"{quantile:.0%} quantile" for quantile in quantiles])
mean, log_variance = net.predict(side).T
for sign in (-1.2816, 1.2816):
    plt.plot(side, mean + sign * np.exp(log_variance / 2), color="black", ls=":", lw=1)
plt.xlabel("mean range of the ten days before, %")
plt.ylabel("range of the day, %")
plt.legend()
plt.show()
