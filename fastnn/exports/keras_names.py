"""What activations are called in Keras."""

from __future__ import annotations

__all__ = ["ACTIVATIONS"]

#: Keras's names of activations that are the same ones here.
ACTIVATIONS: dict[str, str] = {
    "linear": "identity", "relu": "relu", "sigmoid": "sigmoid", "tanh": "tanh",
    "softmax": "softmax", "elu": "elu", "selu": "selu", "gelu": "gelu", "silu": "silu",
    "swish": "silu", "softplus": "softplus", "mish": "mish", "softsign": "softsign",
    "hard_sigmoid": "hard_sigmoid", "exponential": "exp",
}  # fmt: skip
