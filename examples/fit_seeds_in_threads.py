"""
Many seeds in threads
=====================

One fit is one draw. Ten fits that differ in their first weights and the order of their examples
tell what a difference of scores is worth, and the mean of their answers is often better than any.
Compiled code does not hold the interpreter's lock, so that fits run side by side in threads.
"""

from concurrent.futures import ThreadPoolExecutor

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastnn as fn

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = X[:1000] / 16, X[1000:] / 16, y[:1000], y[1000:]


def fitted(seed):
    net = fn.Sequential([fn.Dense(12, "relu"), fn.Dense(10, "softmax")], rng=seed)
    net.fit(X, y, epochs=40, threads=1, progress=False)
    return net.predict(X_test)


# %%
# One thread per fit. The results are the same bits as one after the other.

with ThreadPoolExecutor() as pool:
    answers = np.array(list(pool.map(fitted, range(10))))
assert (answers[3] == fitted(3)).all()

alone = (answers.argmax(axis=-1) == y_test).mean(axis=1)
together = (answers.mean(axis=0).argmax(axis=-1) == y_test).mean()
print(f"ten networks, each alone: {alone.mean():.3f} +- {alone.std(ddof=1):.3f}")
print(f"mean of their answers:    {together:.3f}")

# %%
# Where the ten disagree, they are more often wrong: a measure of doubt for nothing.

agree = (answers.argmax(axis=-1) == answers.mean(axis=0).argmax(axis=-1)).sum(axis=0)
right = answers.mean(axis=0).argmax(axis=-1) == y_test
groups = {"all ten agree": agree == 10, "seven to nine": abs(agree - 8) < 2, "less": agree < 7}
plt.bar(list(groups), [right[rows].mean() for rows in groups.values()])
for place, rows in enumerate(groups.values()):
    plt.text(place, 0.05, f"{rows.sum()} digits", ha="center", color="white")
plt.ylabel("right")
plt.show()
