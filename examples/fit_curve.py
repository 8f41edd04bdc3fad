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
from matplotlib import cbook
from sklearn.datasets import load_diabetes

import fastnn as fn

elevation = cbook.get_sample_data("jacksboro_fault_dem.npz")["elevation"]
y = elevation[170, :, None].astype(float)  # heights along a line through a landscape, in metres
t = np.linspace(-1, 1, len(y))[:, None]

# %%
# An epoch is one step on all points.

fits = {
    "Levenberg-Marquardt": {"optimizer": fn.LevenbergMarquardt(), "epochs": 150},
    "Adam": {"optimizer": fn.Adam(0.01), "epochs": 3000, "batch_size": len(t)},
}
for name, settings in fits.items():
    layers = [fn.Dense(20, "tanh"), fn.Dense(1)]
    net = fn.Sequential(layers, dtype="float64", scale_targets=True, rng=0)
    net.copy().fit(t, y, progress=False, **settings | {"epochs": 1})  # compiles
    began = time.perf_counter()
    history = net.fit(t, y, progress=False, **settings)
    took = time.perf_counter() - began
    error = net.evaluate(t, y, metrics="root_mean_squared_error")["root_mean_squared_error"]
    print(f"{name:20} {len(history['loss']):5} epochs, {took:.2f} s, off by {error:.1f} m")
    plt.plot(t, net.predict(t), label=name)
plt.plot(t, y, ".", color="grey", markersize=3, zorder=0)
plt.legend()
plt.show()

# %%
# A line through a landscape has hardly any noise. On noisy data a fit to the last digit learns the
# noise; there L2 or fewer units help, as ever.

X, y = load_diabetes(return_X_y=True, scaled=False)
X = (X - X.mean(axis=0)) / X.std(axis=0)
for l2 in (0.0, 0.05):
    layers = [fn.Dense(8, "tanh", l2=l2), fn.Dense(1, l2=l2)]
    net = fn.Sequential(layers, dtype="float64", scale_targets=True, rng=0)
    net.fit(X[:300], y[:300], optimizer=fn.LevenbergMarquardt(), epochs=100, progress=False)
    seen = net.evaluate(X[:300], y[:300], metrics="r2")["r2"]
    unseen = net.evaluate(X[300:], y[300:], metrics="r2")["r2"]
    print(f"l2={l2}: R2 {seen:.2f} on what it has seen, {unseen:.2f} on what it has not")
