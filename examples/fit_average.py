"""
The mean of the last weights
============================

With a learning rate that stays as it is, weights end up wandering around a good place. Their mean
over the last epochs lies nearer to it than any of them: stochastic weight averaging (Izmailov and
others 2018), ``average=fn.SWA()``.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastnn as fn

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = X[:1000] / 16, X[1000:] / 16, y[:1000], y[1000:]
ways = {"last weights": None, "mean of the last half": fn.SWA(0.5)}

# %%
# Five fits each, from other first weights. Validation sees the mean as soon as there is one.

losses, scores = {}, {}
for name, average in ways.items():
    losses[name], scores[name] = [], []
    for seed in range(5):
        net = fn.Sequential([fn.Dense(32, "relu"), fn.Dense(10, "softmax")], rng=seed)
        history = net.fit(
            X, y, optimizer=fn.SGD(0.2), epochs=60, batch_size=16, average=average,
            validation_data=(X_test, y_test), metrics="accuracy", progress=False,
        )  # fmt: skip
        losses[name].append(history["val_loss"])
        scores[name].append(history["val_accuracy"][-1])
print("loss and share right of unseen digits, mean and deviation of five fits")
for name in ways:
    last = np.array([of[-1] for of in losses[name]])
    print(f"{name:22} {last.mean():.3f} +- {last.std():.3f}", end="")
    print(f"   {np.mean(scores[name]):.3f} +- {np.std(scores[name]):.3f}")

for name, of in losses.items():
    plt.plot(of[0], label=name)
plt.axvline(30, color="gray", ls=":")
plt.xlabel("epoch")
plt.ylabel("loss of unseen digits, first fit")
plt.legend()
plt.show()
