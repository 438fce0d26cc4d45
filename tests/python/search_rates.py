"""Searches learning rates and epsilon of every method on the validation split, by one rule.

    python search_rates.py --binary ../../target/release/eblora --out ../../docs
    python search_rates.py --binary ../../target/release/eblora --out ../../docs --config ../../benchmarks/text.toml --methods all

The first line searches the demo's, the second a benchmark's (of all methods). Rule, the same for every method.
Criterion: MFN on the validation samples, never the test samples, averaged over the plan's seeds; of
`individual`, which is to show what a task alone can reach and keeps nothing by design, MFT.
Each method gets the plan's trials, each with all seeds:
1. the points of its declared grid;
2. compass search: the best trial so far is the centre. Its neighbours differ from it in one knob,
   by that knob's factor, up or down; the first not tried is the next trial. Once all are tried,
   those by the factor's square root, then by its fourth root; then the next best trial's.
The best trial is the choice. Epsilon moves by its distance from 1. A point within NEAR of a trial in
every knob is that trial, and isn't run. EBLoRA is searched with gradients of the merged model; in the
demo its choice is also run with those of the base, which are shown and decide nothing.

search.json in `--out` (search-NAME.json for a config) keeps every run, search.md shows them. A run found there isn't repeated, and
its point is one of the method's trials.
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NEAR = 0.02
ROOTS = (1, 2, 4)
AT_ONCE = 2

FACTORS = {"lora_rate": 1.5, "s_rate": 1.5, "relative_step": 2.0, "epsilon": 2.0}
METRICS = ("mft", "mfn", "bwt")
CRITERIA = {"individual": "mft"}  # of the others MFN


class Demo:
    """The demo, and what is searched in it."""

    name, title, seeds, trials = "search", "Search of rates and epsilon", (0, 1, 2), 20
    what, origins = "images", ("merged", "base")
    grids = {
        "lora-ft": {"lora_rate": [3e-4, 1e-3, 3e-3, 1e-2]},
        "ebo": {"s_rate": [3e-3, 6e-3], "relative_step": [0.1, 0.4]},
        "eblora": {"s_rate": [3e-3, 6e-3], "epsilon": [0.95, 0.99], "relative_step": [0.1]},
    }
    flags = {
        "lora_rate": "--lora-rate",
        "s_rate": "--s-rate",
        "relative_step": "--relative-step",
        "epsilon": "--epsilon",
    }

    def command(self, binary, key, folder):
        command = [binary, "demo", "--split", "validation", "--threads", "1", "--quiet",
                   "--out", folder, "--methods", key["method"], "--seed", str(key["seed"]),
                   "--gradient-at", key["gradient_at"]]
        for knob, flag in self.flags.items():
            if knob in key:
                command += [flag, repr(key[knob])]
        return command


class Config:
    """A benchmark's config, and what is searched in it."""

    seeds, trials, what, origins = (0,), 7, "samples", ("merged",)
    lora = ("lora-ft", "individual", "multi-task", "replay", "lora-gpm", "o-lora", "sefe", "keeplora", "inflora", "osf")
    grids = {
        **{method: {"lora_rate": [3e-4, 1e-3, 3e-3]} for method in lora},
        **{method: {"s_rate": [1e-2, 2e-2], "relative_step": [0.2]} for method in ("stella", "ebo", "eblora", "eblora-plus")},
    }
    keys = {"lora_rate": "rate", "s_rate": "s_rate", "relative_step": "step"}

    def __init__(self, path):
        self.path, self.name = path, f"search-{path.stem}"
        self.title = f"Search of rates for benchmarks/{path.name}"

    def command(self, binary, key, folder):
        settings = {self.keys[knob]: key[knob] for knob in self.keys if knob in key}
        method = ", ".join([f'name = "{key["method"]}"', *(f"{k} = {v!r}" for k, v in settings.items())])
        return [binary, "train", str(self.path), "--quiet", "--restart", f'out="{folder}"',
                f"seeds=[{key['seed']}]", "threads=1", 'train.split="validation"', f"method=[{{{method}}}]"]


class Runs:
    """Every run so far, by its settings; a new one is made by the binary and saved at once."""

    def __init__(self, plan, binary, out, limit):
        self.plan, self.binary, self.out, self.limit, self.made = plan, binary, out, limit, 0
        path = out / f"{plan.name}.json"
        self.runs = json.loads(path.read_text())["runs"] if path.exists() else []

    def find(self, key):
        settings = lambda run: {name: run[name] for name in run if name not in METRICS}
        return next((run for run in self.runs if settings(run) == key), None)

    def points(self, method):
        """The settings of a method that have a run."""
        for run in self.runs:
            if run["method"] == method and run["gradient_at"] == "merged":
                yield {knob: run[knob] for knob in self.plan.grids[method]}

    def mean(self, method, point, origin="merged"):
        """The criterion's mean over the seeds; what has no run yet is run."""
        keys = [{"method": method, "gradient_at": origin, **point, "seed": s} for s in self.plan.seeds]
        new = [key for key in keys if not self.find(key)]
        if new and self.made >= self.limit >= 0:
            raise StopSearch
        with ThreadPoolExecutor(AT_ONCE) as pool:
            self.runs += [{**key, **got} for key, got in zip(new, pool.map(self.measure, new))]
        mean = statistics.mean(self.find(key)[CRITERIA.get(method, "mfn")] for key in keys)
        if new:
            self.made += len(new)
            self.save({})
            print(method, origin, point, f"{mean:.2f}", flush=True)
        return mean

    def measure(self, key):
        with tempfile.TemporaryDirectory() as folder:
            command = self.plan.command(self.binary, key, folder)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            (path,) = Path(folder).glob("**/result.json")
            result = json.loads(path.read_text())["methods"][0]
        return {name: round(result[name], 3) for name in METRICS}

    def save(self, chosen):
        document = {"split": "validation", "seeds": self.plan.seeds, "chosen": chosen, "runs": self.runs}
        replace(self.out / f"{self.plan.name}.json", json_lines(document))
        replace(self.out / f"{self.plan.name}.md", markdown(self.plan, document))


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


def near(one, other):
    scale = lambda knob, value: 1 - value if knob == "epsilon" else value
    pairs = [(scale(knob, one[knob]), scale(knob, other[knob])) for knob in one]
    return all(abs(x - y) <= NEAR * max(x, y) for x, y in pairs)


def neighbours(centre):
    for root, knob, sign in itertools.product(ROOTS, centre, (1, -1)):
        yield {**centre, knob: moved(knob, centre[knob], FACTORS[knob] ** (sign / root))}


def search(runs, method):
    grid = runs.plan.grids[method]
    trials = []  # (the criterion's mean, point), the best first

    def is_new(point):
        return not any(near(point, other) for _, other in trials)

    def attempt(point):
        trials.append((runs.mean(method, point), point))
        trials.sort(key=lambda trial: -trial[0])

    declared = [dict(zip(grid, values)) for values in itertools.product(*grid.values())]
    for point in itertools.chain(declared, list(runs.points(method))):
        if is_new(point):
            attempt(point)
    while len(trials) < runs.plan.trials:
        around = itertools.chain.from_iterable(neighbours(point) for _, point in trials)
        attempt(next(filter(is_new, around)))
    assert len(trials) == runs.plan.trials, f"{method}: {len(trials)} trials are recorded"
    return trials[0][1]


def markdown(plan, document):
    seeds = ", ".join(map(str, plan.seeds))
    lines = [
        f"# {plan.title}",
        "",
        f"Made by `tests/python/search_rates.py`, which states the rule: {plan.trials} trials a method. Per",
        f"cent on the validation {plan.what}, mean over the seeds given; the choice is the best mean MFN of",
        f"the seeds {seeds}. Rows with gradients at the base decide nothing.",
        *(f"Of {method} the choice is the best mean {metric.upper()}." for method, metric in CRITERIA.items() if method in plan.grids),
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
        key = (run["method"], run["gradient_at"], *(run.get(knob) for knob in FACTORS))
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
    parser.add_argument("--config", type=Path, help="a benchmark's config instead of the demo")
    parser.add_argument("--methods", default="lora-ft,ebo,eblora", help="methods to search, or all")
    parser.add_argument("--limit", type=int, default=-1, help="start no trial after so many new runs")
    options = parser.parse_args()
    plan = Config(options.config) if options.config else Demo()
    runs, chosen = Runs(plan, options.binary, options.out, options.limit), {}
    try:
        for method in list(plan.grids) if options.methods == "all" else options.methods.split(","):
            chosen[method] = search(runs, method)
            if method == "eblora":
                for origin in plan.origins:
                    runs.mean(method, chosen[method], origin)
            print(method, chosen[method], flush=True)
    except StopSearch:
        print("stopped at the limit; run again to go on")
    runs.save(chosen)


if __name__ == "__main__":
    main()
