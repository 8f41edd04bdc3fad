"""
A network on a microcontroller
==============================

``to_c`` writes one file of C99 that needs no library but ``math.h``, allocates nothing and keeps
its weights in flash memory; with ``quantize="int8"`` in a quarter of the room.
"""

import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.datasets import load_digits

import fastnn as fn

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = X[:1300] / 16, X[1300:] / 16, y[:1300], y[1300:]
net = fn.Sequential([fn.Dense(24, "relu"), fn.Dense(10, "softmax")], rng=0)
net.fit(X, y, epochs=40, progress=False)
net.classes = np.arange(10)

# %%
# The rows that it is given, here unseen digits, are those on which the cost of one byte per weight
# is measured and written into the head of the file.
MAIN = """
#include <stdio.h>
int digit_class(const float *x);
int main(void) {
    float x[64];
    for (;;) {
        for (int i = 0; i < 64; i++) if (scanf("%f", &x[i]) != 1) return 0;
        printf("%d\\n", digit_class(x));
    }
}
"""
compiler = shutil.which("cc") or shutil.which("gcc")
print("weights        constants   right in C   as in Python")
with TemporaryDirectory() as folder:
    for quantize in (None, "int8"):
        path = Path(folder, "digit.c")
        net.to_c(path, X_test, name="digit", quantize=quantize)
        head = path.read_text("utf-8").split("*/")[0]
        print(
            f"{quantize or net.dtype!s:8} {re.search(r'[0-9,]+ bytes', head).group():>15}", end=""
        )
        if compiler is None:
            print("   no C compiler here: written, and not tried")
            continue
        program, main = Path(folder, "digit"), Path(folder, "main.c")
        main.write_text(MAIN, "utf-8")
        subprocess.run([compiler, "-O2", path, main, "-lm", "-o", program], check=True)
        rows = "\n".join(" ".join(f"{value:.9g}" for value in row) for row in X_test)
        ran = subprocess.run([program], input=rows, capture_output=True, text=True, check=True)
        answers = np.array(ran.stdout.split(), int)
        same = (answers == net.predict(X_test).argmax(axis=1)).sum()
        print(f" {np.mean(answers == y_test):12.3f} {same:8} of {len(answers)}")
