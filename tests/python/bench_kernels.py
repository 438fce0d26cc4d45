"""The figures of `eblora bench` in PyTorch, on the same machine and in turns with our binary.

    python bench_kernels.py --device cpu --threads 2 --ours "../../target/release/eblora bench --device cpu --threads 2"
    python bench_kernels.py --device cuda --ours "../../target/release/eblora bench --device gpu"

Products, the batched eigen-solve, the retraction, and the optimiser step of all layers of a 7B-shaped model (32
blocks of 7 linears, rank 16, M of 64 directions), in f32 with TF32 off. Each side warms up, then takes the median of
repeated runs; on CUDA the device is waited for. Prints a table; --json also writes it to a file.
"""

import argparse
import json
import math
import shlex
import statistics
import subprocess
import time
from pathlib import Path

import torch

WIDTH, INNER, BLOCKS, RANK, MEMORY, TOKENS = 4096, 11008, 32, 16, 64, 512
# (count, out, in) of layers of equal shape, stacked as ours are.
STACKS = [(4 * BLOCKS, WIDTH, WIDTH), (2 * BLOCKS, INNER, WIDTH), (BLOCKS, WIDTH, INNER)]


def inverse_root(gram: torch.Tensor) -> torch.Tensor:
    values, vectors = torch.linalg.eigh(gram)
    return (vectors * values.rsqrt().unsqueeze(-2)) @ vectors.mT


class Factor:
    """A stack of factors with AdamW's moments, moved as `core/src/optim/riemannian.rs` does it."""

    def __init__(self, shape: tuple[int, int, int], memory: int, device: str) -> None:
        count, n, r = shape
        self.x = torch.linalg.qr(torch.randn(shape, device=device)).Q
        self.m, self.v = torch.zeros_like(self.x), torch.zeros_like(self.x)
        self.grad = torch.randn(shape, device=device)
        self.basis = torch.linalg.qr(torch.randn(count, n, memory, device=device)).Q if memory else None
        self.rate = 0.01 * 0.4 / math.sqrt(n)
        self.step_number = 0

    def off_memory(self, d: torch.Tensor) -> torch.Tensor:
        return d if self.basis is None else d - self.basis @ (self.basis.mT @ d)

    def project(self, d: torch.Tensor) -> torch.Tensor:
        d = self.off_memory(d)
        xd = self.x.mT @ d
        return d - self.x @ (0.5 * (xd + xd.mT))

    def step(self) -> None:
        self.step_number += 1
        g = self.project(self.grad)
        self.m.lerp_(g, 0.1)
        self.v.mul_(0.999).addcmul_(g, g, value=0.001)
        m_hat = self.m / (1 - 0.9**self.step_number)
        v_hat = self.v / (1 - 0.999**self.step_number)
        y = self.off_memory(self.x + self.project(-self.rate * m_hat / (v_hat.sqrt() + 1e-8)))
        self.x = y @ inverse_root(y.mT @ y)


def eblora_step(device: str):
    factors = [Factor((count, out, RANK), 0, device) for count, out, _ in STACKS]
    factors += [Factor((count, inp, RANK), MEMORY, device) for count, _, inp in STACKS]

    def step() -> None:
        with torch.no_grad():
            for factor in factors:
                factor.step()

    return step


def lora_step(device: str):
    shapes = [shape for count, out, inp in STACKS for shape in ((count, out, RANK), (count, inp, RANK))]
    parameters = [torch.nn.Parameter(torch.randn(shape, device=device)) for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    return torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.0, fused=True).step


def product(device: str, m: int, n: int, k: int, a_t: bool, b_t: bool):
    a = torch.randn((k, m) if a_t else (m, k), device=device)
    b = torch.randn((n, k) if b_t else (k, n), device=device)
    out = torch.empty(m, n, device=device)
    a, b = (a.T if a_t else a), (b.T if b_t else b)
    return lambda: torch.matmul(a, b, out=out)


def eigen(device: str, count: int, r: int):
    x = torch.randn(count, 2 * r, r, device=device)
    gram = x.mT @ x
    return lambda: torch.linalg.eigh(gram)


def retract(device: str):
    y = torch.linalg.qr(torch.randn(BLOCKS, WIDTH, RANK, device=device)).Q
    step = 0.1 / math.sqrt(WIDTH) * torch.randn_like(y)

    def run() -> None:
        moved = y + step
        torch.matmul(moved, inverse_root(moved.mT @ moved))

    return run


FIGURES = {
    "matmul/512": lambda d: product(d, 512, 512, 512, False, True),
    "matmul/1024": lambda d: product(d, 1024, 1024, 1024, False, True),
    "matmul/2048": lambda d: product(d, 2048, 2048, 2048, False, True),
    "skinny/x_v": lambda d: product(d, TOKENS, RANK, WIDTH, False, False),
    "skinny/z_ut": lambda d: product(d, TOKENS, WIDTH, RANK, False, True),
    "skinny/dyt_z": lambda d: product(d, WIDTH, RANK, TOKENS, True, False),
    "skinny/u_vt": lambda d: product(d, WIDTH, WIDTH, RANK, False, True),
    "symmetric_eigen/224x16": lambda d: eigen(d, 224, 16),
    "symmetric_eigen/32x64": lambda d: eigen(d, 32, 64),
    "retract/32x4096x16": retract,
    "optimizer_7b/lora": lora_step,
    "optimizer_7b/eblora": eblora_step,
}


def median_ms(work, device: str, repeats: int, patience: float) -> float:
    def once(inner: int) -> float:
        if device == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(inner):
            work()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / inner

    once(1)
    inner = min(500, max(1, math.ceil(2e-3 / max(once(1), 1e-9))))
    times, begun = [], time.perf_counter()
    while len(times) < repeats and (len(times) < 3 or time.perf_counter() - begun < patience):
        times.append(once(inner))
    return 1e3 * statistics.median(times)


def ours(command: str, name: str, repeats: int, patience: float) -> float:
    options = ["--only", name, "--repeats", str(repeats), "--patience", str(patience), "--quiet", "--json", "-"]
    output = subprocess.run([*shlex.split(command), *options], check=True, capture_output=True).stdout
    results = [r for r in json.loads(output)["results"] if r["name"] == name]
    if len(results) != 1:
        raise SystemExit(f"--ours gives {len(results)} figures called {name}: let it measure one device")
    return results[0]["median_ms"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--ours", help="our command, for the same device and threads")
    parser.add_argument("--only", default="", help="figures whose names begin so")
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--patience", type=float, default=3.0, help="seconds a figure")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    name = torch.cuda.get_device_name() if args.device == "cuda" else f"cpu, {args.threads} thread(s)"
    print(f"PyTorch {torch.__version__} on {name}; medians, ms\n")
    print("| figure | PyTorch | ours | ours/PyTorch |\n| --- | --- | --- | --- |")
    rows = []
    for figure in (f for f in FIGURES if f.startswith(args.only)):
        theirs = median_ms(FIGURES[figure](args.device), args.device, args.repeats, args.patience)
        own = ours(args.ours, figure, args.repeats, args.patience) if args.ours else None
        rows.append({"name": figure, "torch_ms": theirs, "ours_ms": own})
        cells = f"{own:.3f} | {own / theirs:.2f}" if own is not None else "– | –"
        print(f"| {figure} | {theirs:.3f} | {cells} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"torch": torch.__version__, "device": name, "results": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
