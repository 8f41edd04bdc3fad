"""
Checkpoints, and going on after a crash
=======================================

A long fit writes its state now and then; whatever ends the process, the next one goes on to the
very bits of the fit that was never interrupted.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import fastnn as fn

X, y = load_digits(return_X_y=True)
X = X / 16
layers = [fn.Dense(32, "relu"), fn.Dropout(0.2), fn.Dense(10, "softmax")]
# %%
# The same fit in another process, which dies in epoch 13. A `Checkpoint` writes to a new file and
# renames it, so that there is always a whole one.
PROGRAM = """
import os, sys
import fastnn as fn
from sklearn.datasets import load_digits
X, y = load_digits(return_X_y=True)
layers = [fn.Dense(32, "relu"), fn.Dropout(0.2), fn.Dense(10, "softmax")]
class Dying(fn.Callback):
    def on_epoch_end(self, run):
        if run.epoch == 12:
            os._exit(9)
callbacks = [fn.Checkpoint(sys.argv[1], every=5), Dying()]
fn.Sequential(layers, rng=0).fit(X / 16, y, epochs=30, callbacks=callbacks, progress=False)
"""

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "fit.fastnn"
    died = subprocess.run([sys.executable, "-c", PROGRAM, str(path)])
    print("the process ended with", died.returncode, "and left", *sorted(os.listdir(folder)))
    resumed = fn.Sequential(layers, rng=0)
    history = resumed.fit(X, y, epochs=30, resume=path, progress=False)

# %%
# Nothing tells this network from one that was trained in one go.
whole = fn.Sequential(layers, rng=0)
expected = whole.fit(X, y, epochs=30, progress=False)
print("the same bits:", np.array_equal(whole.parameters, resumed.parameters))
print("the same history:", history["loss"] == expected["loss"])
plt.semilogy(expected["loss"], lw=5, alpha=0.4, label="in one go")
plt.semilogy(history["loss"], color="black", lw=1, label="died and resumed")
plt.axvline(12, color="C3", ls=":", label="where it died")
plt.xlabel("epoch")
plt.ylabel("loss")
plt.legend()
plt.show()
