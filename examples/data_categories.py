"""
Categories
==========

Sales of 300 shops on 7 days of the week. A shop's number says nothing by itself, and 300 columns of
0 and 1 say nothing of which shops are alike. `fastnn.Embedding` learns a vector for each.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn

rng = np.random.default_rng(0)
SHOPS, DAYS, ROWS = 300, 7, 12_000
kind = rng.integers(3, size=SHOPS)  # offices, suburbs, stations: not in the data
week = np.array([[1, 1, 1, 1, 1, -2, -2], [0, 0, 0, 0, 0, 2, -1], [0, 0, 0, 0, 2, 1, 1]])
shop, day, price = (
    rng.integers(SHOPS, size=ROWS),
    rng.integers(DAYS, size=ROWS),
    rng.normal(size=ROWS),
)
y = week[kind[shop], day] - (0.3 + 0.4 * kind[shop]) * price + 0.3 * rng.normal(size=ROWS)

# %%
# Codes are whole numbers from 0, in columns among the others. Where categories are texts,
# scikit-learn's ``OrdinalEncoder`` numbers them; one code more is for those that may come later.

X = np.column_stack([price, shop, day])
train, test = slice(0, 9000), slice(9000, None)


def error(layers):
    net = fn.Sequential([*layers, fn.Dense(64, "relu"), fn.Dense(32, "relu"), fn.Dense(1)])
    net.fit(X[train], y[train], epochs=30, optimizer=fn.Adam(0.002), progress=False)
    return net, net.evaluate(X[test], y[test])["loss"]


plain, as_number = error([fn.Standardize()])
net, embedded = error([fn.Standardize(), fn.Embedding({1: SHOPS + 1, 2: DAYS}, {1: 8})])
print(f"mean squared error: codes as numbers {as_number:.2f}, embedded {embedded:.2f}")
print(f"(the noise alone has {0.3**2:.2f})")

# %%
# The vectors are an array like any other. Their two main directions tell shops apart by a kind that
# the network was never told.

vectors = net.layout.view(net.parameters, "1.table_1")[:SHOPS]
centred = vectors - vectors.mean(axis=0)
first_two = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
for number, name in enumerate(("offices", "suburbs", "stations")):
    plt.scatter(*first_two[kind == number].T, s=8, label=name)
plt.legend()
plt.title("vectors of shops")
plt.show()
