"""
A surrogate of a simulator, with its Jacobian
=============================================

A simulation that takes milliseconds is replaced by a network that takes a microsecond, and whose
derivative comes with it. Here the simulator follows a thrown ball with drag; wanted is the throw
that lands in a given place, which takes the derivative of the landing by the throw.
"""

import numba
import numpy as np

import fastnn as fn


def simulate(throw, dt=0.02):
    speed, angle = throw
    v, place, top = speed * np.array([np.cos(angle), np.sin(angle)]), np.zeros(2), 0.0
    while place[1] >= 0:
        v = v + dt * (np.array([0.0, -9.81]) - 0.02 * np.linalg.norm(v) * v)
        place = place + dt * v
        top = max(top, place[1])
    return place[0], top


# %%
# Three hundred runs teach the network. Throws are brought to [-1, 1], results to unit scale.

low, high = np.array([5.0, 0.3]), np.array([25.0, 1.3])
rng = np.random.default_rng(0)
U = rng.uniform(-1, 1, (300, 2))
Y = np.array([simulate(low + (u + 1) / 2 * (high - low)) for u in U])
centre, scale = Y.mean(axis=0), Y.std(axis=0)
net = fn.Sequential([fn.Dense(32, "tanh"), fn.Dense(32, "tanh"), fn.Dense(2)], dtype="float64")
settings = {"epochs": 600, "optimizer": fn.Adam(0.005), "schedule": "cosine", "progress": False}
net.fit(U[:250], (Y[:250] - centre) / scale, **settings)
error = np.abs(net.predict(U[250:]) * scale + centre - Y[250:]).mean(axis=0)
print(f"off by {error[0]:.2f} m in distance, {error[1]:.2f} m in height, on unseen throws")

# %%
# ``vjp(weights, u, v, du)`` writes the product of v with the Jacobian at u. Newton's method on it
# finds the throw that flies 20 m far and 8 m high, without one more run of the simulator.

forward, weights, vjp = net.jitted(gradient=True)


@numba.njit
def solve(weights, u, wanted, steps):
    f, J, unit = np.empty(2), np.empty((2, 2)), np.eye(2)
    for _ in range(steps):
        forward(weights, u, f)
        vjp(weights, u, unit[0], J[0])
        vjp(weights, u, unit[1], J[1])
        u = u - np.linalg.solve(J, f - wanted)
    return u


u = solve(weights, np.zeros(2), (np.array([20.0, 8.0]) - centre) / scale, 8)
throw = low + (u + 1) / 2 * (high - low)
print(f"speed {throw[0]:.2f} m/s, angle {throw[1]:.2f}: lands at", np.round(simulate(throw), 2))
