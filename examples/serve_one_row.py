"""
Serving one row in a microsecond
================================

A service asks about one example at a time. ``predict`` accepts anything and checks it; ``net(x)``
takes a vector of the network's dtype and answers in about a microsecond; ``freeze`` packs the
weights for a few rows at once; inside compiled code a fifth of a microsecond is left.
"""

import timeit

import matplotlib.pyplot as plt
import numba
import numpy as np
from sklearn.datasets import load_breast_cancer

import fastnn as fn

X, y = load_breast_cancer(return_X_y=True)
X = ((X - X.mean(axis=0)) / X.std(axis=0)).astype(np.float32)
net = fn.Sequential([fn.Dense(32, "relu"), fn.Dense(1, "sigmoid")], rng=0)
net.fit(X, y, epochs=30, progress=False)

x, out = X[0].copy(), np.empty(1, np.float32)
frozen = net.freeze()
forward, weights = net.jitted()


@numba.njit
def hundred(weights, x, out):
    for _ in range(100):
        forward(weights, x, out)


estimator = fn.MLPClassifier((32,), max_iter=30, dtype="float32").set_params(tol=1.0).fit(X, y)
ways = {
    "estimator.predict_proba([x])": (lambda: estimator.predict_proba(x[None]), 1),
    "net.predict(x)": (lambda: net.predict(x[None]), 1),
    "net(x)": (lambda: net(x), 1),
    "net(x, out=out)": (lambda: net(x, out=out), 1),
    "frozen(x, out=out)": (lambda: frozen(x, out=out), 1),
    "inside @njit": (lambda: hundred(weights, x, out), 100),
}
assert net(x) == net.predict(x[None])[0] == frozen(x)

# %%
# The least of many tries; a machine that does other work besides takes longer.

best = {
    name: min(timeit.repeat(call, number=100, repeat=20)) * 1e4 / inner
    for name, (call, inner) in ways.items()
}
for name, microseconds in best.items():
    print(f"{name:30} {microseconds:8.2f} us")
plt.barh(list(best)[::-1], list(best.values())[::-1])
plt.xscale("log")
plt.xlabel("microseconds per answer")
plt.tight_layout()
plt.show()
