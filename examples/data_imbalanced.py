"""
Few of one class
================

Of 377 tumours 20 are malignant. A model that never says so is right in 95 of 100 cases and of no
use. Three things help: measure what matters, weight the rare class, and choose where to say yes.
"""

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import average_precision_score, precision_recall_curve, recall_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import MLPClassifier

X, y = load_breast_cancer(return_X_y=True)
malignant = np.flatnonzero(y == 0)[:20]
rows = np.concatenate([malignant, np.flatnonzero(y == 1)])
X, rare = X[rows], (y[rows] == 0).astype(int)

# %%
# ``class_weight="balanced"`` counts each class as much as the other: an error on a malignant tumour
# weighs 18 times one on a benign one.

folds = StratifiedKFold(5, shuffle=True, random_state=0)
found = {}
for weight in (None, "balanced"):
    model = make_pipeline(
        StandardScaler(),
        MLPClassifier(
            16, alpha=0.1, class_weight=weight, learning_rate_init=0.003, max_iter=60, tol=0.0,
            n_iter_no_change=60, random_state=0,
        ),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # all sixty epochs were wanted
        p = cross_val_predict(model, X, rare, cv=folds, method="predict_proba")[:, 1]
    found[str(weight)] = p
    print(
        f"class_weight={weight!s:9} right {np.mean((p > 0.5) == rare):.3f}"
        f"  found {recall_score(rare, p > 0.5):.2f} of the rare ones"
        f"  average precision {average_precision_score(rare, p):.3f}"
    )

# %%
# Average precision measures the order of the examples, and the curve shows every place where the
# model could begin to say yes: choose by what a missed tumour costs.

for name, p in found.items():
    precision, recall, _ = precision_recall_curve(rare, p)
    plt.step(recall, precision, where="post", label=f"class_weight={name}")
plt.xlabel("share of the rare ones that is found")
plt.ylabel("share of alarms that is right")
plt.legend()
plt.show()
