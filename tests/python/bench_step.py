"""Times the training step of torch_step.py, and beside it that of our own binary.

    python bench_step.py --compile --ours "../../target/release/eblora bench --device cpu --only vit_step --json -"
    python bench_step.py --model minilm --repeats 10 \\
        --ours "../../target/release/eblora bench --device cpu --only minilm_step --json -"

Each measurement is a process of its own, and the two sides take turns, round after round; the
table holds the median of the rounds' medians. The command of `--ours` prints
{"results": [{"name": "vit_step/lora", "threads": 1, "median_ms": …}, …]} on its standard output.
Peak memory is the result's own "peak_rss_mib" where it has one, else that of the whole process.
This script doesn't import torch: on Linux a child's peak memory starts at its parent's.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

TORCH_STEP = Path(__file__).with_name("torch_step.py")
METHODS = ("lora", "eblora")
MODELS = ("vit", "minilm", "smollm2")
STEPS = [f"{model}_step/{method}" for model in MODELS for method in METHODS]
EAGER, COMPILED, OURS = "torch eager", "torch compile", "ours"


class Table:
    """Times and peak memory of every round, by (name, threads) and side."""

    def __init__(self) -> None:
        self.times = defaultdict(lambda: defaultdict(list))
        self.peaks = defaultdict(lambda: defaultdict(list))

    def add(self, side: str, results: list[dict], peak_mib: float) -> None:
        for result in results:
            if result["name"] not in STEPS:
                continue
            row = (result["name"], result["threads"])
            self.times[row][side].append(result["median_ms"])
            self.peaks[row][side].append(result.get("peak_rss_mib") or peak_mib)

    def lines(self) -> list[str]:
        sides = [
            side
            for side in (EAGER, COMPILED, OURS)
            if any(side in times for times in self.times.values())
        ]
        heads = ["step", "threads"]
        heads += [f"{side}, ms" for side in sides]
        heads += [f"ours/{side}" for side in sides if side != OURS and OURS in sides]
        heads += [f"{side}, peak MiB" for side in sides]
        rows = [heads, ["---"] * len(heads)]
        rows += [self.cells(row, sides) for row in sorted(self.times)]
        return [f"| {' | '.join(row)} |" for row in rows]

    def cells(self, row: tuple[str, int], sides: list[str]) -> list[str]:
        times = {side: statistics.median(found) for side, found in self.times[row].items()}
        peaks = {side: max(found) for side, found in self.peaks[row].items()}
        cells = [row[0], str(row[1])]
        cells += [f"{times[side]:.2f}" if side in times else "–" for side in sides]
        if OURS in sides:
            for side in sides[:-1]:
                both = OURS in times and side in times
                cells.append(f"{times[OURS] / times[side]:.2f}" if both else "–")
        return cells + [f"{peaks[side]:.0f}" if side in peaks else "–" for side in sides]


def run(command: list[str]) -> tuple[list[dict], float]:
    """The results a command prints, and its peak resident memory in MiB."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{shlex.join(command)} failed with status {process.returncode}")
    return json.loads(output)["results"], usage.ru_maxrss / 1024


def torch_command(method: str, threads: int, compiled: bool, arguments) -> list[str]:
    command = [sys.executable, str(TORCH_STEP), method, "--threads", str(threads)]
    command += ["--repeats", str(arguments.repeats), "--model", arguments.model]
    if arguments.base:
        command += ["--base", str(arguments.base)]
    return command + ["--compile"] * compiled


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ours", type=shlex.split, help="a command that prints our results")
    parser.add_argument("--model", choices=MODELS, default="vit")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile as well")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=50, help="steps per round")
    parser.add_argument("--base", type=Path, help="folder of the base model")
    arguments = parser.parse_args()

    table = Table()
    for _ in range(arguments.rounds):
        for method in METHODS:
            for threads in arguments.threads:
                for compiled in (False, True) if arguments.compile else (False,):
                    side = COMPILED if compiled else EAGER
                    table.add(side, *run(torch_command(method, threads, compiled, arguments)))
        if arguments.ours:
            table.add(OURS, *run(arguments.ours))
    print("\n".join(table.lines()))


if __name__ == "__main__":
    main()
