"""
Why this answer?
================

Which features moved one prediction away from the usual one, and by how much: `attribute` divides
the difference among the features, so that their shares sum to it. That is a statement about the
model, one example at a time; shuffling columns, as another recipe does, makes one about all.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes

import fastnn as fn

data = load_diabetes()
X, y, names = data.data, data.target, data.feature_names
layers = [fn.Standardize(), fn.Dense(16, "tanh", l2=0.02), fn.Dense(1, l2=0.02)]
net = fn.Sequential(layers, scale_targets=True, rng=0)
net.fit(X[:342], y[:342], epochs=200, progress=False)
print("R2 on unseen patients:", round(net.evaluate(X[342:], y[342:], metrics="r2")["r2"], 2))

# %%
# Expected gradients: each patient beside a hundred others, of whom the mean prediction is the base.

found = net.attribute(X[342:], X[:100], method="expected_gradients", steps=50, rng=0)
patient = int(net.predict(X[342:]).argmax())
shares, base = found.values[patient], found.base
print(f"usual {base:.0f}, this patient {found.outputs[patient]:.0f};", end=" ")
print(f"base and shares sum to {base + shares.sum():.0f}")

order = np.abs(shares).argsort()
plt.barh([names[k] for k in order], shares[order], color=np.where(shares[order] > 0, "C3", "C0"))
plt.xlabel("points of disease progression, away from the usual")
plt.tight_layout()
plt.show()

# %%
# The mean size of the shares over all patients is an importance, too.

for k in np.abs(found.values).mean(axis=0).argsort()[::-1][:4]:
    print(f"{names[k]:5} {np.abs(found.values[:, k]).mean():.1f}")
