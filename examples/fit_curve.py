"""
Fitting a curve by Levenberg-Marquardt
======================================

A small network on a few hundred points is a curve to be fitted, not a model to be trained:
`LevenbergMarquardt` uses the whole Jacobian in every step, and ends where Adam would take thousands
of epochs to come.  It is for squared errors and up to some thousand weights.
"""

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

import fastnn as fn

rng = np.random.default_rng(0)
t = np.linspace(-1, 1, 240)[:, None]
s = 6 + 6 * t
y = np.exp(-s / 6) * np.cos(1.7 * s + 0.3 * np.sin(s)) + 0.02 * rng.normal(size=t.shape)

# %%
# An epoch is one step on all points.

fits = {
    "Levenberg-Marquardt": {"optimizer": fn.LevenbergMarquardt(), "epochs": 150},
    "Adam": {"optimizer": fn.Adam(0.01), "epochs": 3000, "batch_size": 240},
}
for name, settings in fits.items():
    net = fn.Sequential([fn.Dense(20, "tanh"), fn.Dense(1)], 1, dtype="float64", rng=0)
    net.copy().fit(t, y, progress=False, **settings | {"epochs": 1})  # compiles
    began = time.perf_counter()
    history = net.fit(t, y, progress=False, **settings)
    took = time.perf_counter() - began
    error = net.evaluate(t, y, metrics="root_mean_squared_error")["root_mean_squared_error"]
    print(f"{name:20} {len(history['loss']):5} epochs, {took:.2f} s, error {error:.4f}")
    plt.plot(t, net.predict(t), label=name)
plt.plot(t, y, ".", color="grey", markersize=3, zorder=0)
plt.legend()
plt.show()

# %%
# The errors of the points were drawn with a deviation of 0.02, which is what is left. On noisy data
# a fit to the last digit learns the noise; there L2 or fewer units help, as ever.

X, y = load_diabetes(return_X_y=True, scaled=False)
X = (X - X.mean(axis=0)) / X.std(axis=0)
for l2 in (0.0, 0.05):
    layers = [fn.Dense(8, "tanh", l2=l2), fn.Dense(1, l2=l2)]
    net = fn.Sequential(layers, dtype="float64", scale_targets=True, rng=0)
    net.fit(X[:300], y[:300], optimizer=fn.LevenbergMarquardt(), epochs=100, progress=False)
    seen = net.evaluate(X[:300], y[:300], metrics="r2")["r2"]
    unseen = net.evaluate(X[300:], y[300:], metrics="r2")["r2"]
    print(f"l2={l2}: R2 {seen:.2f} on what it has seen, {unseen:.2f} on what it has not")
