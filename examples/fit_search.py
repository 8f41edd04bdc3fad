"""
Searching for settings
======================

The estimators go into scikit-learn's searches like any other. Successive halving gives many
settings a few epochs and only the good ones more: ``max_iter`` is the resource.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV, train_test_split

from fastnn import MLPClassifier

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, random_state=0, stratify=y)

X, X_test = X / 16, X_test / 16  # pixels from 0 to 1
model = MLPClassifier(tol=0.0, n_iter_no_change=99, dtype="float32", n_threads=1, random_state=0)
settings = {
    "hidden_layer_sizes": [(32,), (64,), (128,), (64, 64)],
    "activation": ["relu", "tanh", "silu"],
    "solver": ["adam", "adamw", "nadam"],
    "learning_rate_init": loguniform(3e-4, 3e-2),
    "alpha": loguniform(1e-5, 1e-1),
    "dropout": [0.0, 0.2, 0.4],
}
search = HalvingRandomSearchCV(
    model, settings, resource="max_iter", n_candidates=24, min_resources=3,
    max_resources=27, factor=3, cv=3, random_state=0,
)  # fmt: skip

# %%
# Every fit stops at ``max_iter`` on purpose, so that the warning that says so is left out.

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    search.fit(X, y)
for name, value in sorted(search.best_params_.items()):
    print(f"{name:20} {value}")
print(f"{'right, unseen':20} {search.score(X_test, y_test):.3f}")

# %%
# The learning rate decides more than anything else.

table = search.cv_results_
rates = np.array(table["param_learning_rate_init"], float)
for number in range(search.n_iterations_):
    rows = table["iter"] == number
    label = f"{table['n_resources'][rows][0]} epochs"
    plt.semilogx(rates[rows], table["mean_test_score"][rows], "o", label=label)
plt.xlabel("learning rate")
plt.ylabel("right, mean of three folds")
plt.legend()
plt.show()
