"""
Which learning rate?
====================

One fit with a rate that grows from step to step shows where the loss falls and where it blows up.
The rate that it suggests then serves as the maximum of a schedule that rises and falls again.
"""

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

import fastnn as fn

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = X[:1300] / 16, X[1300:] / 16, y[:1300], y[1300:]


def network():
    return fn.Sequential([fn.Dense(64, "relu"), fn.Dense(10, "softmax")], rng=0)


found = fn.find_learning_rate(network(), X, y, optimizer=fn.SGD(momentum=0.9))
print(f"suggested: {found.suggestion:.2g}")

# %%
# Twenty epochs each. The rate of every epoch stands in the history.

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
left.semilogx(found.rates, found.losses)
left.axvline(found.suggestion, color="gray", ls=":")
left.set_xlabel("learning rate")
left.set_ylabel("loss")
for rate in (found.suggestion / 100, found.suggestion, found.suggestion * 30):
    net = network()
    try:
        history = net.fit(
            X, y, optimizer=fn.SGD(rate, momentum=0.9), schedule="one_cycle", epochs=20,
            progress=False,
        )  # fmt: skip
    except fn.DivergenceError as error:
        print(f"{rate:8.2g}  {error}")
        continue
    right.semilogy(history["loss"], label=f"{rate:.2g}")
    accuracy = net.evaluate(X_test, y_test, metrics="accuracy")["accuracy"]
    print(f"{rate:8.2g}  right on unseen digits: {accuracy:.3f}")
right.set_xlabel("epoch")
right.legend()
plt.tight_layout()
plt.show()
