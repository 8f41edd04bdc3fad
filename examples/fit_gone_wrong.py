"""
A fit that goes wrong, and how to find out why
==============================================

The loss stands still and nothing fails. ``diagnose`` looks at features, targets, units and
gradients of a network, layer by layer, and says in words what stands in the way.
"""

import warnings

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

import fastnn as fn

X, y = load_wine(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.4, stratify=y, random_state=0)


def fitted(layers, rate=0.001):
    net = fn.Sequential([*layers, fn.Dense(3, "softmax")], rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fn.FitWarning)  # it would tell the first fault at once
        history = net.fit(X, y, optimizer=fn.Adam(rate), epochs=80, progress=False)
    score = net.evaluate(X_test, y_test, metrics="accuracy")["accuracy"]
    print(f"right, of unseen wines: {score:.2f}\n")
    return net, history["loss"]


# %%
# As the data comes: proline is a thousand times as large as hue, and sigmoid units are at their
# ends from the start.

deep = [fn.Dense(32, "sigmoid", initializer="glorot_uniform") for _ in range(4)]
net, first = fitted(deep)
print(net.diagnose(X, y))

# %%
# The first advice is to scale, here by a layer that measures mean and deviation itself. Nothing is
# found wrong any more, and unseen wines are told apart.

net, second = fitted([fn.Standardize(), *deep])
print(net.diagnose(X, y))

# %%
# The other advice, relu with the first weights that belong to it, makes it learn faster: after as
# many steps the loss is a hundredth of that above.

net, third = fitted([fn.Standardize(), *(fn.Dense(32, "relu") for _ in range(4))])
print(net.diagnose(X, y))

for loss, name in ((first, "as it comes"), (second, "scaled"), (third, "scaled, relu")):
    plt.semilogy(loss, label=name)
plt.xlabel("epoch")
plt.ylabel("loss")
plt.legend()
plt.show()
