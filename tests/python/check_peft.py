"""Stock PEFT and transformers on adapters and models of ours: do they give the logits that we computed?"""

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from fixtures import peft_lora

TOLERANCE = 1e-4


class Mismatch(AssertionError):
    """Stock software computes something else."""


def check(args: argparse.Namespace) -> None:
    """The case's logits against stock ones, with an adapter or of a merged model alone."""
    case = load_file(args.case)
    if args.adapter is None:
        model = peft_lora.load_base(args.family, args.base)
    else:
        model = peft_lora.load_adapted(args.family, args.base, args.adapter)
    actual = peft_lora.logits(args.family, model, case)
    error = peft_lora.difference(actual, case["logits"])
    if not error <= TOLERANCE:
        raise Mismatch(f"logits differ by {error:.2e} of the largest, allowed {TOLERANCE:.0e}")
    # A comparison that anything passes is none: without the adapter the logits must differ.
    if args.adapter is not None:
        with model.disable_adapter():
            without = peft_lora.logits(args.family, model, case)
        if not peft_lora.difference(without, case["logits"]) > 100 * TOLERANCE:
            raise Mismatch("the adapter changes next to nothing, so that this shows nothing")


def make(args: argparse.Namespace) -> None:
    """A LoRA of PEFT's own with random factors, and its logits."""
    torch.manual_seed(args.seed)
    # `all-linear` of a ViT has its head in it.
    targets = "all-linear" if args.family != "vit" else ["q_proj", "k_proj", "v_proj", "o_proj", "fc1", "fc2"]
    settings = {"r": args.rank, "lora_alpha": 2 * args.rank, "target_modules": targets}
    peft_lora.make(args.family, args.base, settings, torch.float32, args.adapter, args.case)


def batch(args: argparse.Namespace) -> None:
    """Many of the above: the file lists their arguments; prints what failed of each, or null."""
    failures = []
    for arguments in json.loads(args.jobs.read_text()):
        job = parser().parse_args(arguments)
        try:
            job.run(job)
            failures.append(None)
        except Exception as error:  # the caller judges them all
            failures.append(f"{job.family}: {type(error).__name__}: {error}")
    print(json.dumps(failures))


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(description=__doc__)
    verbs = whole.add_subparsers(required=True)
    for verb in (check, make):
        sub = verbs.add_parser(verb.__name__, help=verb.__doc__)
        sub.set_defaults(run=verb)
        sub.add_argument("--family", choices=list(peft_lora.STOCK), required=True)
        sub.add_argument("--base", type=Path, required=True, help="Hugging Face folder")
        sub.add_argument("--adapter", type=Path, required=verb is make, help="PEFT folder")
        sub.add_argument("--case", type=Path, required=True, help="inputs and logits (safetensors)")
    sub.add_argument("--rank", type=int, default=4)
    sub.add_argument("--seed", type=int, default=0)
    sub = verbs.add_parser("batch", help=batch.__doc__)
    sub.set_defaults(run=batch)
    sub.add_argument("jobs", type=Path, help="a list of lists of arguments (JSON)")
    return whole


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(1)
    try:
        args.run(args)
    except Mismatch as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
