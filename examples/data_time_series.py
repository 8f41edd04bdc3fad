"""
A series in time
================

How much of a share will be traded tomorrow? A network has no memory: what it is to know of the past
becomes columns, the logarithms of the volume of the ten days before. Past and future are never
mixed: it is trained on the first three quarters and asked about the last.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression

import fastnn as fn

table = cbook.get_sample_data("goog.npz")["price_data"]
volume = np.log(table["volume"].astype(float))
lags = 10

# %%
# Row t holds the days t to t + 9, the target is day t + 10. What is wanted is the *change* from the
# last day, so that a network that has learnt nothing says "as today".

X = np.lib.stride_tricks.sliding_window_view(volume, lags)[:-1]
today, target = X[:, -1], volume[lags:] - X[:, -1]
X = X - X.mean(axis=1, keepdims=True)
cut = int(0.75 * len(X))

net = fn.Sequential([fn.Standardize(), fn.Dense(16, "tanh", l2=1e-2), fn.Dense(1, l2=1e-2)])
net.fit(
    X[:cut], target[:cut], epochs=200, optimizer=fn.Adam(0.003), validation_fraction=0.15,
    callbacks=fn.EarlyStopping(patience=20), progress=False,
)  # fmt: skip
found = {
    "as today": np.zeros(len(X) - cut),
    "mean of ten days": -X[cut:, -1],
    "linear regression": LinearRegression().fit(X[:cut], target[:cut]).predict(X[cut:]),
    "boosted trees": HistGradientBoostingRegressor(max_depth=3, max_iter=50, random_state=0)
    .fit(X[:cut], target[:cut])
    .predict(X[cut:]),
    "network": net.predict(X[cut:])[:, 0],
}
for name, of in found.items():
    error = np.sqrt(np.mean((of - target[cut:]) ** 2))
    print(f"{name:18} off by {100 * (np.exp(error) - 1):.0f} %")

# %%
# A weighted mean of the days before is better than today alone, and there is little more in ten
# volumes than that: the straight line, the trees and the network are as good as each other.

plt.plot(volume[lags + cut :], lw=1, label="what it was")
plt.plot(today[cut:] + found["network"], lw=1, label="said the day before")
plt.xlabel("trading days")
plt.ylabel("log of shares traded")
plt.legend()
plt.show()
