"""Searches learning rates and epsilon of every method on the validation split, by one rule.

    python search_rates.py --binary ../../target/release/eblora --out ../../docs

Rule, the same for every method. Criterion: MFN on the validation images, never the test images,
averaged over the seeds 0 and 1.
1. Coarse: every point of the method's declared grid with seed 0; the best FINALISTS of them also
   with seed 1. The best mean is the centre.
2. Refinement (compass search): one knob at a time, the centre's value times and over that knob's
   factor, both seeds; a better mean becomes the centre. Once no neighbour is new, factors become
   their square roots. It ends at MAX_TRIALS points in all, or at a factor below MIN_FACTOR.
Epsilon moves by its distance from 1. EBLoRA is searched with gradients of the merged model; one
epsilon must serve base gradients too, so its settings are then also run with those, over the grid's
epsilons, and the epsilon with the best mean of both origins is chosen.

search.json in `--out` keeps every run, search.md shows them; a run found there isn't repeated.
"""

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

SEEDS = (0, 1)
MAX_TRIALS = 8
FINALISTS = 2
MIN_FACTOR = 1.15

FLAGS = {
    "lora_rate": "--lora-rate",
    "s_rate": "--s-rate",
    "relative_step": "--relative-step",
    "epsilon": "--epsilon",
}
GRIDS = {
    "lora-ft": {"lora_rate": [3e-4, 1e-3, 3e-3]},
    "ebo": {"s_rate": [3e-3, 6e-3], "relative_step": [0.1]},
    "eblora": {"s_rate": [3e-3, 6e-3], "epsilon": [0.95, 0.99], "relative_step": [0.1]},
}
FACTORS = {"lora_rate": 1.5, "s_rate": 1.5, "relative_step": 2.0, "epsilon": 2.0}
METRICS = ("mft", "mfn", "bwt")


class Runs:
    """Every run so far, by its settings; a new one is made by the binary and saved at once."""

    def __init__(self, binary, out, limit):
        self.binary, self.out, self.limit, self.made = binary, out, limit, 0
        path = out / "search.json"
        self.runs = json.loads(path.read_text())["runs"] if path.exists() else []

    def get(self, method, settings, seed, origin="merged"):
        key = {"method": method, "gradient_at": origin, **settings, "seed": seed}
        for run in self.runs:
            if {name: run[name] for name in run if name not in METRICS} == key:
                return run
        if self.made == self.limit:
            raise StopSearch
        run = {**key, **self.measure(key)}
        self.made += 1
        self.runs.append(run)
        self.save({})
        print("  ".join(f"{name} {value:.4g}" if isinstance(value, float) else str(value)
                        for name, value in run.items()), flush=True)
        return run

    def measure(self, key):
        with tempfile.TemporaryDirectory() as folder:
            command = [self.binary, "demo", "--split", "validation", "--threads", "1", "--quiet",
                       "--out", folder, "--methods", key["method"], "--seed", str(key["seed"]),
                       "--gradient-at", key["gradient_at"]]
            for knob, flag in FLAGS.items():
                if knob in key:
                    command += [flag, repr(key[knob])]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            result = json.loads((Path(folder) / "result.json").read_text())["methods"][0]
        return {name: round(result[name], 3) for name in METRICS}

    def mean(self, method, settings, origin="merged", seeds=SEEDS):
        return statistics.mean(self.get(method, settings, seed, origin)["mfn"] for seed in seeds)

    def save(self, chosen):
        document = {"split": "validation", "seeds": SEEDS, "chosen": chosen, "runs": self.runs}
        replace(self.out / "search.json", json_lines(document))
        replace(self.out / "search.md", markdown(document))


class StopSearch(Exception):
    """The number of new runs allowed is used up."""


def replace(path, text):
    temporary = path.with_suffix(path.suffix + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def json_lines(document):
    """JSON with one run a line, so that a diff shows what was added."""
    head = {name: value for name, value in document.items() if name != "runs"}
    runs = ",\n    ".join(json.dumps(run) for run in document["runs"])
    return json.dumps(head, indent=2)[:-2] + ',\n  "runs": [\n    ' + runs + "\n  ]\n}\n"


def moved(knob, value, factor):
    new = 1 - (1 - value) * factor if knob == "epsilon" else value * factor
    return float(f"{new:.3g}") if knob != "epsilon" else round(new, 4)


def search(runs, method):
    grid = GRIDS[method]
    points = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    points.sort(key=lambda point: -runs.mean(method, point, seeds=SEEDS[:1]))
    centre = max(points[:FINALISTS], key=lambda point: runs.mean(method, point))
    factors = {knob: FACTORS[knob] for knob in grid}
    while len(points) < MAX_TRIALS:
        new = False
        for knob, inverse in itertools.product(grid, (False, True)):
            factor = 1 / factors[knob] if inverse else factors[knob]
            point = {**centre, knob: moved(knob, centre[knob], factor)}
            if point in points or len(points) == MAX_TRIALS:
                continue
            points.append(point)
            new = True
            if runs.mean(method, point) > runs.mean(method, centre):
                centre = point
        if not new:
            factors = {knob: math.sqrt(factor) for knob, factor in factors.items()}
            if max(factors.values()) < MIN_FACTOR:
                break
    return centre


def serve_both_origins(runs, centre):
    epsilons = sorted({*GRIDS["eblora"]["epsilon"], centre["epsilon"]})
    return max(
        ({**centre, "epsilon": epsilon} for epsilon in epsilons),
        key=lambda point: sum(runs.mean("eblora", point, at) for at in ("merged", "base")),
    )


def markdown(document):
    lines = [
        "# Search of rates and epsilon",
        "",
        "Made by `tests/python/search_rates.py`, which states the rule. Per cent on the validation",
        f"images, mean over the seeds given; the choice is the best mean MFN of seeds {list(SEEDS)}.",
        "",
    ]
    for method, settings in document["chosen"].items():
        lines.append(f"- **{method}**: " + ", ".join(f"{k} {v:g}" for k, v in settings.items()))
    lines += [
        "",
        "| method | gradient at | lora rate | s rate | relative step | epsilon | seeds | MFT | MFN | BWT |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    trials = {}
    for run in document["runs"]:
        key = (run["method"], run["gradient_at"], *(run.get(knob) for knob in FLAGS))
        trials.setdefault(key, []).append(run)

    def row(item):
        key, runs = item
        mft, mfn, bwt = (statistics.mean(run[name] for run in runs) for name in METRICS)
        method, origin, *knobs = key
        origin = origin if method == "eblora" else "–"
        knobs = " | ".join("–" if value is None else f"{value:g}" for value in knobs)
        seeds = ", ".join(str(seed) for seed in sorted(run["seed"] for run in runs))
        return f"| {method} | {origin} | {knobs} | {seeds} | {mft:.1f} | {mfn:.1f} | {bwt:.1f} |"

    order = lambda item: tuple(-1 if value is None else value for value in item[0])
    lines += [row(item) for item in sorted(trials.items(), key=order)]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True, help="the eblora binary")
    parser.add_argument("--out", type=Path, required=True, help="folder of search.json, search.md")
    parser.add_argument("--methods", default="eblora,lora-ft,ebo", help="methods to search")
    parser.add_argument("--limit", type=int, default=-1, help="stop after so many new runs")
    options = parser.parse_args()
    runs, chosen = Runs(options.binary, options.out, options.limit), {}
    try:
        for method in options.methods.split(","):
            chosen[method] = search(runs, method)
            if method == "eblora":
                chosen[method] = serve_both_origins(runs, chosen[method])
            print(method, chosen[method], flush=True)
    except StopSearch:
        print("stopped at the limit; run again to go on")
    runs.save(chosen)


if __name__ == "__main__":
    main()
