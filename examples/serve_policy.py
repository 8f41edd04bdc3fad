"""
A policy called from a compiled loop
====================================

A controller that decides fifty times per second of simulated time must not go through Python for
each decision. ``jitted`` gives the network as a function for your own ``@njit`` code. A network
imitates a controller that balances a pole, and ten thousand starts show where it can.
"""

import matplotlib.pyplot as plt
import numba
import numpy as np

import fastnn as fn

rng = np.random.default_rng(0)
states = rng.uniform(-1, 1, (4000, 4)) * [2.4, 2.0, 0.21, 2.0]
policy = fn.Sequential([fn.Dense(16, "tanh"), fn.Dense(1, "tanh")])
wanted = np.sign(states @ [0.5, 1.0, 20.0, 3.0])
policy.fit(states, wanted, "mean_squared_error", epochs=30, progress=False)
forward, weights = policy.jitted()


@numba.njit
def push(s, force, tau=0.02):
    sine, cosine = np.sin(s[2]), np.cos(s[2])
    pushed = (force + 0.05 * s[3] * s[3] * sine) / 1.1
    turn = (9.8 * sine - cosine * pushed) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
    s[0] += tau * s[1]
    s[1] += tau * (pushed - 0.05 * turn * cosine / 1.1)
    s[2] += tau * s[3]
    s[3] += tau * turn


# %%
# Pass the weights as an argument: Numba would freeze a global tuple into the code.


@numba.njit
def balanced(weights, starts, steps, lasted):
    action = np.empty(1, np.float32)
    for k in range(len(starts)):
        s = starts[k].copy()
        while lasted[k] < steps and abs(s[0]) <= 2.4 and abs(s[2]) <= 0.21:
            forward(weights, s, action)
            push(s, 10.0 if action[0] > 0 else -10.0)
            lasted[k] += 1


starts = rng.uniform(-1, 1, (10_000, 4)).astype(np.float32) * np.float32([1, 1, 0.2, 1])
lasted = np.zeros(len(starts), int)
balanced(weights, starts, 200, lasted)
print(f"{lasted.sum():,} decisions; {np.mean(lasted == 200):.0%} of the starts are balanced")

plt.scatter(starts[:, 2], starts[:, 3], c=lasted, s=3)
plt.colorbar(label="steps of 200 that the pole stays up")
plt.xlabel("angle at the start")
plt.ylabel("its speed")
plt.show()
