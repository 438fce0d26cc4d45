"""One training step in PyTorch, timed; prints JSON.

Forward, backward and optimiser for low-rank adapters on all linears of the blocks, float32, a fixed
random batch. The model is the bundled base (`vit`), or one with random weights and the extents of
MiniLM-L6 or SmolLM2-135M in transformers. `lora` uses fused AdamW; `eblora` the Riemannian step on
stacked factors.
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

RANK = 8
LORA_SCALE = 16 / RANK
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

    def __init__(self, n: int, left_count: int, right_count: int, span: int):
        joint = random_point(right_count, n, span + RANK)
        self.m = joint[..., :span].contiguous()
        self.left_count = left_count
        self.points = torch.cat([random_point(left_count, n, RANK), joint[..., span:]])
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
        # No layer may have so many inputs.
        return max(x.abs().max().item() for x in (overlap, off_span) if x.numel() > 0)


class LoraTraining:
    """LoRA with fused AdamW."""

    def __init__(self, linears: list[vit.AdaptedLinear], span: int):
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

    def __init__(self, linears: list[vit.AdaptedLinear], span: int):
        shapes = [linear.weight.shape for linear in linears]
        left = [outputs for outputs, _ in shapes]
        right = [inputs for _, inputs in shapes]
        self.stacks = {
            n: FactorStack(n, left.count(n), right.count(n), span) for n in sorted(set(left + right))
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


def vit_subject(base: Path):
    """Loss of a fixed batch, the adapted linears, and directions of M in each."""
    model = vit.load(base).requires_grad_(False)
    config = model.config
    pixels = torch.randn(32, config.num_channels, config.image_size, config.image_size)
    labels = torch.randint(config.num_labels, (32,))
    loss = lambda: functional.cross_entropy(model(pixels), labels)
    return loss, list(model.adapted_linears().values()), 16


def adapt(module: nn.Module) -> list[vit.AdaptedLinear]:
    """Puts adaptable linears with the same weights in place of all those of a module."""
    adapted = []
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear):
            linear = vit.AdaptedLinear(child.in_features, child.out_features)
            linear.weight, linear.bias = child.weight, child.bias
            setattr(module, name, linear)
            adapted.append(linear)
        else:
            adapted += adapt(child)
    return adapted


def minilm_subject(_: Path):
    """As vit_subject; mean pooling under a linear head."""
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=30522, hidden_size=384, num_hidden_layers=6,
                        num_attention_heads=12, intermediate_size=1536)
    model = BertModel(config, add_pooling_layer=False).requires_grad_(False).eval()
    head = nn.Linear(384, 29, bias=False).requires_grad_(False)
    ids, labels = torch.randint(200, config.vocab_size, (16, 32)), torch.randint(29, (16,))
    loss = lambda: functional.cross_entropy(head(model(ids).last_hidden_state.mean(1)), labels)
    return loss, adapt(model.encoder), 64


def smollm2_subject(_: Path):
    """As vit_subject; the loss of the last 8 tokens of each sequence."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=49152, hidden_size=576, num_hidden_layers=30,
                         num_attention_heads=9, num_key_value_heads=3, intermediate_size=1536,
                         max_position_embeddings=8192, tie_word_embeddings=True, use_cache=False)
    model = LlamaForCausalLM(config).requires_grad_(False).eval()
    ids = torch.randint(200, config.vocab_size, (2, 64))

    def loss() -> Tensor:
        logits = model(ids, logits_to_keep=9).logits[:, :-1]
        return functional.cross_entropy(logits.flatten(0, 1), ids[:, -8:].flatten())

    return loss, adapt(model.model.layers), 64


SUBJECTS = {"vit": vit_subject, "minilm": minilm_subject, "smollm2": smollm2_subject}
# Of one that takes more than a second.
LARGE_WARM_UP = 2


def measure(model: str, base: Path, method: str, compiled: bool, repeats: int) -> dict[str, float]:
    """Milliseconds of a whole step (median and least) and of its three phases (medians)."""
    loss_of, linears, span = SUBJECTS[model](base)
    training = TRAININGS[method](linears, span)
    warm_up = WARM_UP if model == "vit" else LARGE_WARM_UP

    forward = torch.compile(loss_of) if compiled else loss_of
    marks = []
    for _ in range(warm_up + repeats):
        start = time.perf_counter()
        loss = forward()
        forwarded = time.perf_counter()
        loss.backward()
        backwarded = time.perf_counter()
        training.update()
        marks.append((start, forwarded, backwarded, time.perf_counter()))
    if not loss.isfinite():
        raise ArithmeticError("the loss is not finite")
    training.check()

    def milliseconds(begin: int, end: int) -> list[float]:
        return [1e3 * (mark[end] - mark[begin]) for mark in marks[warm_up:]]

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
    parser.add_argument("--model", choices=SUBJECTS, default="vit")
    parser.add_argument("--base", type=Path, default=DEFAULT_BASE)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeats", type=int, default=50)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    result = {"name": f"{arguments.model}_step/{arguments.method}", "threads": arguments.threads}
    result |= measure(
        arguments.model, arguments.base, arguments.method, arguments.compile, arguments.repeats
    )
    result["peak_rss_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"results": [result]}))


if __name__ == "__main__":
    main()
