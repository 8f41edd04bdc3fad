"""
Which features matter?
======================

Shuffle one column of unseen examples and see how much worse the answers become: the importance of
the column *to this model*. It works for any model.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.inspection import permutation_importance
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn import MLPClassifier

X, y = load_wine(return_X_y=True, as_frame=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)
model = make_pipeline(
    StandardScaler(), MLPClassifier(16, solver="lbfgs", alpha=1.0, max_iter=300, random_state=0)
)
model.fit(X, y)
print(f"right: {model.score(X_test, y_test):.2f}")

# %%
# Columns that say the same share their importance, and each alone looks unimportant: an importance
# near 0 does not mean that a column holds nothing.

found = permutation_importance(
    model, X_test, y_test, n_repeats=50, random_state=0, scoring="neg_log_loss"
)
order = found.importances_mean.argsort()
for place in order[::-1][:5]:
    mean, std = found.importances_mean[place], found.importances_std[place]
    print(f"{X.columns[place]:30} {mean:.3f} +- {std:.3f}")

plt.barh(X.columns[order], found.importances_mean[order], xerr=found.importances_std[order])
plt.xlabel("how much larger the log-loss becomes")
plt.tight_layout()
plt.show()
