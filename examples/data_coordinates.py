"""
A surface over two coordinates
==============================

Heights of a landscape, at a tenth of its places: what lies between? A network of plain coordinates
draws it soft, since it bends little from one place to the next. `fastnn.NumericEmbedding` gives it
waves of each coordinate, whose frequencies are learnt.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook

import fastnn as fn

heights = cbook.get_sample_data("jacksboro_fault_dem.npz")["elevation"].astype("float32")
rows, columns = np.indices(heights.shape)
places = np.column_stack([rows.ravel(), columns.ravel()]).astype("float32")
chosen = np.random.default_rng(0).permutation(len(places))
train, test = chosen[:14_000], chosen[14_000:40_000]

# %%
# Heights are hundreds of metres: ``scale_targets=True`` brings them to unit scale inside, and
# answers come back in metres.

waves = fn.NumericEmbedding(frequencies=32, dimension=24, sigma=1.0)
firsts = {"coordinates": [fn.Standardize()], "waves of them": [fn.Standardize(), waves]}
drawn = {"measured": heights}
print(f"always the mean  off by {np.std(heights):5.1f} m")
for name, first in firsts.items():
    layers = [*first, fn.Dense(128, "relu"), fn.Dense(128, "relu"), fn.Dense(1)]
    net = fn.Sequential(layers, scale_targets=True, rng=0)
    net.fit(places[train], heights.ravel()[train], epochs=20, batch_size=64, schedule="cosine",
            optimizer=fn.Adam(0.003), progress=False)  # fmt: skip
    error = net.predict(places[test])[:, 0] - heights.ravel()[test]
    print(f"{name:16} off by {np.sqrt(np.mean(error**2)):5.1f} m at places that it has not seen")
    drawn[name] = net.predict(places).reshape(heights.shape)

figure, axes = plt.subplots(1, 3, figsize=(9, 3.4))
for axis, (name, picture) in zip(axes, drawn.items(), strict=True):
    axis.imshow(picture, cmap="terrain", vmin=heights.min(), vmax=heights.max())
    axis.set_title(name)
    axis.set_axis_off()
plt.tight_layout()
plt.show()
