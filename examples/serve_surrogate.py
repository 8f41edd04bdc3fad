"""
A surrogate of a simulator, with its Jacobian
=============================================

A simulation that takes milliseconds is replaced by a network that takes a microsecond, and whose
derivative comes with it. Here the simulator follows a thrown ball with drag; wanted is the throw
that lands in a given place, which takes the derivative of the landing by the throw.
"""

import matplotlib.pyplot as plt
import numpy as np

import fastnn as fn


def simulate(throw, dt=0.02):
    speed, angle = throw
    v, path = speed * np.array([np.cos(angle), np.sin(angle)]), [np.zeros(2)]
    while path[-1][1] >= 0:
        v = v + dt * (np.array([0.0, -9.81]) - 0.02 * np.linalg.norm(v) * v)
        path.append(path[-1] + dt * v)
    return np.array(path)


# %%
# Three hundred runs teach the network. Throws are brought to [-1, 1], results to unit scale inside.

low, high = np.array([5.0, 0.3]), np.array([25.0, 1.3])
rng = np.random.default_rng(0)
U = rng.uniform(-1, 1, (300, 2))
paths = [simulate(low + (u + 1) / 2 * (high - low)) for u in U]
Y = np.array([(path[-1, 0], path[:, 1].max()) for path in paths])
layers = [fn.Dense(32, "tanh"), fn.Dense(32, "tanh"), fn.Dense(2)]
net = fn.Sequential(layers, dtype="float64", scale_targets=True, rng=0)
settings = {"epochs": 600, "optimizer": fn.Adam(0.005), "schedule": "cosine", "progress": False}
net.fit(U[:250], Y[:250], **settings)
error = np.abs(net.predict(U[250:]) - Y[250:]).mean(axis=0)
print(f"off by {error[0]:.2f} m in distance, {error[1]:.2f} m in height, on unseen throws")

# %%
# ``jacobian`` holds the derivatives of all outputs by all inputs, of each row. Newton's method on
# it finds throws that fly so far and so high, all at once, without one more run of the simulator.

wanted = np.array([(10, 2), (20, 4), (20, 8), (30, 6)])
u = np.zeros((4, 2))
for _ in range(8):
    missed = net.predict(u) - wanted
    u -= np.linalg.solve(net.jacobian(u), missed[..., None])[..., 0]

print("wanted, m   speed and angle   simulated, m")
for (far, top), throw in zip(wanted, low + (u + 1) / 2 * (high - low), strict=True):
    path = simulate(throw)
    print(f"{far:5} {top:2} {throw[0]:10.2f} {throw[1]:6.2f}", end="")
    print(f" {path[-1, 0]:10.2f} {path[:, 1].max():5.2f}")
    line = plt.plot(*path.T)[0]
    plt.plot(far, 0, "x", color=line.get_color())
    plt.axhline(top, color=line.get_color(), lw=0.5, ls=":")
plt.xlabel("m")
plt.ylabel("m")
plt.show()
