"""
ONNX and PyTorch, both ways
===========================

A network that was trained here runs wherever ONNX does, and one that was trained in PyTorch runs
here, from its weights or from its file; the file is read without PyTorch and without running it.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
from sklearn.datasets import load_iris

import fastnn as fn

X, y = load_iris(return_X_y=True)
X = X.astype("float32")
net = fn.Sequential([fn.Dense(16, "tanh"), fn.Dense(3, "softmax")], rng=0)
net.fit(X, y, epochs=100, progress=False)
ours = net.predict(X)

# %%
# Out to ONNX and back.
with TemporaryDirectory() as folder:
    path = str(Path(folder, "iris.onnx"))
    net.to_onnx(path)
    (theirs,) = onnxruntime.InferenceSession(path).run(None, {"X": X})
    again = fn.from_onnx(path)
found = {"ONNX Runtime": theirs, "read back from ONNX": again.predict(X)}

# %%
# PyTorch's ``state_dict`` holds weights by name, the transpose of ours, and no activations: those
# are named. Whoever has PyTorch gives the module itself: ``fn.from_torch(module)``, and
# ``net.to_torch()`` is a module again.

state = {
    "0.weight": net.weights[0].T, "0.bias": net.biases[0],
    "2.weight": net.weights[1].T, "2.bias": net.biases[1],
}  # fmt: skip
found["from a state_dict"] = fn.from_torch(state, ["tanh", "softmax"]).predict(X)
try:
    import torch
except ImportError:
    print("PyTorch is not installed: the module and its file are left out")
else:
    module = net.to_torch()
    with torch.no_grad():
        found["PyTorch's own module"] = module(torch.from_numpy(X)).numpy()
    with TemporaryDirectory() as folder:
        torch.save(module.state_dict(), Path(folder, "iris.pt"))
        state = fn.load_torch(Path(folder, "iris.pt"))
    found["its file, read without it"] = fn.from_torch(state, ["tanh", "softmax"]).predict(X)

# %%
# The largest difference of a probability:
for name, outputs in found.items():
    difference = np.abs(outputs - ours).max()
    print(f"{name:26}", f"{difference:.0e}" if difference else "none: the same bits")
