"""PyTorch: eager with the fused Adam, and a whole step compiled as one graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from serving import BETA_1, BETA_2, EPSILON, LEARNING_RATE, Case, Floats, Library, serve
from torch import Tensor, nn
from torch.nn import functional


class PyTorch(Library):
    variants = ("eager", "compiled")

    def __init__(self, variant: str, threads: int) -> None:
        super().__init__(variant, threads)
        torch.set_num_threads(threads)

    def versions(self) -> dict[str, str]:
        return {
            "torch": str(torch.__version__),
            "vectors of PyTorch": str(torch.backends.cpu.get_cpu_capability()),
        }

    def forget(self) -> None:
        torch.compiler.reset()

    def prepare(self, case: Case) -> None:
        X, y = torch.from_numpy(case.X), torch.from_numpy(case.y)
        self.batches = [(X[batch], y[batch]) for batch in case.batches]
        self.network = _network(case)
        self.first = [p.detach().clone() for p in self.network.parameters()]
        self.loss = functional.cross_entropy if case.classifies else functional.mse_loss
        if self.variant == "compiled":
            self._prepare_whole_step()
        else:
            self._prepare_eager_step()

    def _prepare_eager_step(self) -> None:
        parameters = list(self.network.parameters())
        adam = torch.optim.Adam(
            parameters, lr=LEARNING_RATE, betas=(BETA_1, BETA_2), eps=EPSILON, fused=True
        )
        network, loss = self.network, self.loss

        def step(X: Tensor, y: Tensor) -> None:
            adam.zero_grad(set_to_none=True)
            loss(network(X), y).backward()
            adam.step()

        def forget_moments() -> None:
            for moments in adam.state.values():
                for moment in moments.values():
                    moment.zero_()

        self.step, self.parameters, self.forget_moments = step, parameters, forget_moments

    def _prepare_whole_step(self) -> None:
        """Compile loss, gradient and Adam together.

        `backward` and the optimizers' `step` split a compiled function into several graphs,
        which costs a small network more than it gains; written with `torch.func` and Adam's
        formula a step is one graph.
        """
        parameters = [p.detach() for p in self.network.parameters()]
        names = [name for name, _ in self.network.named_parameters()]
        m, v = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
        powers, betas = torch.ones(2), torch.tensor([BETA_1, BETA_2])
        network, loss = self.network, self.loss

        def loss_of(parameters: list[Tensor], X: Tensor, y: Tensor) -> Tensor:
            named = dict(zip(names, parameters, strict=True))
            predicted: Tensor = torch.func.functional_call(network, named, (X,))
            return loss(predicted, y)

        def step(X: Tensor, y: Tensor) -> None:
            powers.mul_(betas)
            scale_m, scale_v = 1 / (1 - powers)
            gradients = torch.func.grad(loss_of)(parameters, X, y)
            for p, a, b, g in zip(parameters, m, v, gradients, strict=True):
                a.mul_(BETA_1).add_(g, alpha=1 - BETA_1)
                b.mul_(BETA_2).addcmul_(g, g, value=1 - BETA_2)
                p.sub_(LEARNING_RATE * (a * scale_m) / ((b * scale_v).sqrt() + EPSILON))

        def forget_moments() -> None:
            powers.fill_(1.0)
            for moment in (*m, *v):
                moment.zero_()

        compiled = torch.compile(step, fullgraph=True, dynamic=False)
        self.step, self.parameters, self.forget_moments = compiled, parameters, forget_moments

    def reset(self) -> None:
        with torch.no_grad():
            for parameter, first in zip(self.parameters, self.first, strict=True):
                parameter.copy_(first)
        self.forget_moments()

    def train(self, epochs: int) -> None:
        step, batches = self.step, self.batches
        with torch.set_grad_enabled(self.variant == "eager"):
            for _ in range(epochs):
                for X, y in batches:
                    step(X, y)

    def weights(self) -> list[tuple[Floats, Floats]]:
        values = [p.detach().numpy() for p in self.parameters]
        return [(W.T.copy(), b.copy()) for W, b in zip(values[::2], values[1::2], strict=True)]

    def product(self, A: Floats, B: Floats) -> Callable[[], Any] | None:
        left, right = torch.from_numpy(A), torch.from_numpy(B)
        return lambda: left @ right

    def predictor(self, case: Case) -> Callable[[], Any]:
        network: Any = _network(case)
        if case.classifies:
            network.append(nn.Softmax(dim=1))
        network.eval()
        if self.variant == "compiled":
            network = torch.compile(network, fullgraph=True, dynamic=False)
        X = torch.from_numpy(case.X)
        inference = torch.inference_mode

        def predict() -> Tensor:
            with inference():
                found: Tensor = network(X)
            return found

        return predict


def _network(case: Case) -> nn.Sequential:
    """Return the network with its first weights; cross-entropy takes its softmax over."""
    hidden = nn.ReLU if case.activation == "relu" else nn.Tanh
    modules: list[nn.Module] = []
    for W, b in case.weights:
        layer = nn.Linear(*W.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(W.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
        modules += [layer, hidden()]
    return nn.Sequential(*modules[:-1])


if __name__ == "__main__":
    serve(PyTorch)
