"""
A table with a number to predict
================================

How far diabetes has progressed after a year, from ten measurements of 442 patients. Features *and*
targets are brought to unit scale: with targets around 150 the first thousand steps would go into
finding the mean.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import MLPRegressor

X, y = load_diabetes(return_X_y=True, scaled=False)

network = MLPRegressor(
    hidden_layer_sizes=8, activation="tanh", alpha=10, solver="lbfgs", random_state=0,
    standardize=True, scale_targets=True,
)  # fmt: skip
models = {
    "mean of all": DummyRegressor(),
    "ridge": make_pipeline(StandardScaler(), RidgeCV()),
    "boosted trees": HistGradientBoostingRegressor(max_depth=3, max_iter=60, random_state=0),
    "network": network,
}

# %%
# Each fit measures both scales on its own examples, inside. With so few rows the whole batch fits
# into one step, for which ``lbfgs`` is the solver, and ``alpha``, the penalty on large weights,
# matters more than the number of units.

folds = KFold(5, shuffle=True, random_state=0)
found = {name: cross_val_predict(model, X, y, cv=folds) for name, model in models.items()}
for name, of in found.items():
    error = np.abs(of - y)
    spread = error.std() / np.sqrt(len(y))
    print(f"{name:14} off by {error.mean():.1f} +- {spread:.1f}")

# %%
# The straight line is hard to beat here, and neither the trees nor the network do so by more than
# the noise.

plt.scatter(y, found["network"], s=8)
plt.plot([0, 350], [0, 350], color="gray", ls=":")
plt.xlabel("what it was")
plt.ylabel("what the network says of patients that it has not seen")
plt.show()
