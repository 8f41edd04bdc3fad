"""
Several outputs of different scales
===================================

Three properties of a wine from the other ten: its proline (hundreds), its colour (ones) and its hue
(tenths). The loss is a mean over outputs, so that without scaling proline would count a million
times as much as hue and the others would not be learnt.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

import fastnn as fn

wine = load_wine()
wanted = [wine.feature_names.index(name) for name in ("proline", "color_intensity", "hue")]
X, Y = np.delete(wine.data, wanted, axis=1), wine.data[:, wanted]
X, X_test, Y, Y_test = train_test_split(X, Y, test_size=0.3, random_state=0)

# %%
# With ``scale_targets=True`` the network measures mean and deviation of each target when it is
# fitted, learns them at unit scale, and answers in their own units.

layers = [fn.Standardize(), fn.Dense(32, "tanh", l2=1e-2), fn.Dense(3, l2=1e-2)]
answers = {}
print(f"{'R2':12} proline  colour     hue")
for name, scale in {"scaled": True, "not scaled": False}.items():
    net = fn.Sequential(layers, dtype="float64", scale_targets=scale, rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fn.FitWarning)  # it says that targets are out of scale
        net.fit(X, Y, epochs=200, optimizer=fn.Adam(0.005), progress=False)
    answers[name] = net.predict(X_test)
    r2 = 1 - ((answers[name] - Y_test) ** 2).mean(axis=0) / Y_test.var(axis=0)
    print(f"{name:12}", *(f"{value:7.2f}" for value in r2))

figure, axes = plt.subplots(1, 3, figsize=(9, 3))
for place, axis in enumerate(axes):
    axis.scatter(Y_test[:, place], answers["scaled"][:, place], s=8)
    axis.set_title(wine.feature_names[wanted[place]])
    axis.axline([Y[:, place].mean()] * 2, slope=1, color="gray", ls=":")
axes[0].set_ylabel("predicted")
plt.tight_layout()
plt.show()
