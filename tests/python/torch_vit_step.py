"""One training step of the bundled base in PyTorch, timed; prints JSON.

Forward, backward and optimiser for low-rank adapters on all 24 linears of the encoder, float32,
a fixed random batch. `lora` uses fused AdamW; `eblora` the Riemannian step on stacked factors.
"""

import argparse
import json
import resource
import statistics
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import vit
from manifold import random_point, tangent_euclidean, whiten

BATCH = 32
RANK = 8
LORA_SCALE = 16 / RANK
SPAN = 16
RELATIVE_STEP = 0.1
RATE = 1e-3
BETAS = (0.9, 0.999)
EPS = 1e-8
WARM_UP = 10
LARGEST_DRIFT = 1e-5
DEFAULT_BASE = Path(__file__).resolve().parents[2] / "native" / "assets" / "base"


class LoraAdapter(nn.Module):
    """Adds `(α/r) (x Aᵀ) Bᵀ`."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        outputs, inputs = linear.weight.shape
        self.a = nn.Parameter(torch.empty(RANK, inputs))
        self.b = nn.Parameter(torch.zeros(outputs, RANK))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        low = functional.linear(x, self.a).flatten(0, -2)
        return torch.addmm(y.flatten(0, -2), low, self.b.T, alpha=LORA_SCALE).view_as(y)


class FactoredAdapter(nn.Module):
    """Adds `s (x V) Uᵀ`; the factors are rows of stacks."""

    def __init__(self, u: nn.Parameter, v: nn.Parameter, s: nn.Parameter):
        super().__init__()
        self.u, self.v, self.s = u, v, s

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        low = (x.flatten(0, -2) @ self.v) * self.s
        return torch.addmm(y.flatten(0, -2), low, self.u.T).view_as(y)


def row_of(stack: Tensor, gradients: Tensor, row: int) -> nn.Parameter:
    """A parameter that shares memory with a row of `stack`, its gradient with one of `gradients`."""
    parameter = nn.Parameter(stack[row])
    parameter.grad = gradients[row]
    return parameter


class FactorStack:
    """All factors with n rows: first every U, then every V, which stays off its own M."""

    def __init__(self, n: int, left_count: int, right_count: int):
        joint = random_point(right_count, n, SPAN + RANK)
        self.m = joint[..., :SPAN].contiguous()
        self.left_count = left_count
        self.points = torch.cat([random_point(left_count, n, RANK), joint[..., SPAN:]])
        self.gradients = torch.zeros_like(self.points)
        self.first = torch.zeros_like(self.points)
        self.second = torch.zeros_like(self.points)
        self.rate = RELATIVE_STEP / n**0.5

    def remove_spans(self, d: Tensor) -> None:
        right = d[self.left_count :]
        right.baddbmm_(self.m, self.m.mT @ right, alpha=-1)

    def moved(self, step: int) -> Tensor:
        """The points after an AdamW step in the tangent space, not yet retracted."""
        self.remove_spans(self.gradients)
        gradients = tangent_euclidean(self.points, self.gradients)
        self.first.lerp_(gradients, 1 - BETAS[0])
        self.second.mul_(BETAS[1]).addcmul_(gradients, gradients, value=1 - BETAS[1])
        spread = self.second.sqrt().div_((1 - BETAS[1] ** step) ** 0.5).add_(EPS)
        d = (self.first / spread).mul_(-self.rate / (1 - BETAS[0] ** step))
        self.remove_spans(d)
        y = self.points + tangent_euclidean(self.points, d)
        self.remove_spans(y)
        return y

    def drift(self) -> float:
        """How far the points are from orthonormal, and the V from orthogonal to their M."""
        overlap = self.points.mT @ self.points - torch.eye(RANK)
        off_span = self.m.mT @ self.points[self.left_count :]
        return max(overlap.abs().max().item(), off_span.abs().max().item())


class LoraTraining:
    """LoRA with fused AdamW."""

    def __init__(self, linears: list[vit.AdaptedLinear]):
        for linear in linears:
            linear.adapter = LoraAdapter(linear)
        parameters = [p for linear in linears for p in linear.adapter.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=BETAS, fused=True)

    def update(self) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()

    def check(self) -> None:
        """Nothing to hold beyond a finite loss."""


class EbloraTraining:
    """The Riemannian step for U and V, one stack per number of rows; plain AdamW for s."""

    def __init__(self, linears: list[vit.AdaptedLinear]):
        shapes = [linear.weight.shape for linear in linears]
        left = [outputs for outputs, _ in shapes]
        right = [inputs for _, inputs in shapes]
        self.stacks = {
            n: FactorStack(n, left.count(n), right.count(n)) for n in sorted(set(left + right))
        }
        scales = torch.linspace(0.002, 0.010, len(linears))
        self.scales = nn.Parameter(scales)
        self.scales.grad = torch.zeros_like(scales)
        self.optimizer = torch.optim.AdamW([self.scales], lr=RATE, betas=BETAS, fused=True)
        self.step = 0
        next_left = dict.fromkeys(self.stacks, 0)
        next_right = {n: stack.left_count for n, stack in self.stacks.items()}
        for index, linear in enumerate(linears):
            outputs, inputs = linear.weight.shape
            u, v = self.stacks[outputs], self.stacks[inputs]
            linear.adapter = FactoredAdapter(
                row_of(u.points, u.gradients, next_left[outputs]),
                row_of(v.points, v.gradients, next_right[inputs]),
                row_of(scales.unsqueeze(1), self.scales.grad.unsqueeze(1), index),
            )
            next_left[outputs] += 1
            next_right[inputs] += 1

    @torch.no_grad()
    def update(self) -> None:
        self.step += 1
        self.optimizer.step()
        moved = [stack.moved(self.step) for stack in self.stacks.values()]
        for stack, y in zip(self.stacks.values(), moved):
            stack.points.copy_(whiten(y))
            stack.gradients.zero_()
        self.scales.grad.zero_()

    @torch.no_grad()
    def check(self) -> None:
        drift = max(stack.drift() for stack in self.stacks.values())
        if not drift < LARGEST_DRIFT:
            raise ArithmeticError(f"the factors left their manifold by {drift:.1e}")


TRAININGS = {"lora": LoraTraining, "eblora": EbloraTraining}


def measure(base: Path, method: str, compiled: bool, repeats: int) -> dict[str, float]:
    """Milliseconds of a whole step (median and least) and of its three phases (medians)."""
    model = vit.load(base).requires_grad_(False)
    training = TRAININGS[method](list(model.adapted_linears().values()))
    config = model.config
    pixels = torch.randn(BATCH, config.num_channels, config.image_size, config.image_size)
    labels = torch.randint(config.num_labels, (BATCH,))

    def loss_of(pixels: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(model(pixels), labels)

    forward = torch.compile(loss_of) if compiled else loss_of
    marks = []
    for _ in range(WARM_UP + repeats):
        start = time.perf_counter()
        loss = forward(pixels, labels)
        forwarded = time.perf_counter()
        loss.backward()
        backwarded = time.perf_counter()
        training.update()
        marks.append((start, forwarded, backwarded, time.perf_counter()))
    if not loss.isfinite():
        raise ArithmeticError("the loss is not finite")
    training.check()

    def milliseconds(begin: int, end: int) -> list[float]:
        return [1e3 * (mark[end] - mark[begin]) for mark in marks[WARM_UP:]]

    def median_ms(begin: int, end: int) -> float:
        return statistics.median(milliseconds(begin, end))

    return {
        "median_ms": median_ms(0, 3),
        "min_ms": min(milliseconds(0, 3)),
        "forward_ms": median_ms(0, 1),
        "backward_ms": median_ms(1, 2),
        "optimiser_ms": median_ms(2, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("method", choices=TRAININGS)
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=50)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    result = {"name": f"vit_step/{arguments.method}", "threads": arguments.threads}
    result |= measure(arguments.base, arguments.method, arguments.compile, arguments.repeats)
    result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"results": [result]}))


if __name__ == "__main__":
    main()
