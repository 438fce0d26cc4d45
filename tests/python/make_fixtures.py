"""Writes tests/fixtures: reference values in double precision for the Rust tests."""

import argparse
import json
import shutil
from pathlib import Path

import torch

from fixtures import adapter, bert, checks, gguf_file, gpm, llama, manifold, metrics, minilm
from fixtures import methods, ops, optim, peft_lora, text_ops, vit

SEED = 20_261
DEFAULT_OUTPUT = Path(__file__).resolve().parents[1] / "fixtures"
BUILDERS = {
    "ops": ops.build,
    "text_ops": text_ops.build,
    "optim": optim.build,
    "manifold": manifold.build,
    "gpm": gpm.build,
    "adapter": adapter.build,
    "methods": methods.build,
}
MODEL_BUILDERS = {
    "vit_cls": vit.build_class_token,
    "vit_mean": vit.build_mean_token,
    "bert": bert.build,
}
MODEL_BUILDERS |= {name: llama.build for name in llama.CONFIGS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    output = parser.parse_args().output

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(SEED)
    checks.check_the_checks()
    for name, build in BUILDERS.items():
        torch.manual_seed(SEED)
        build().save(output / f"{name}.safetensors")
    for name, build in MODEL_BUILDERS.items():
        torch.manual_seed(SEED)
        shutil.rmtree(output / name, ignore_errors=True)
        build(output / name).save(output / f"{name}.safetensors")
    minilm.build(output).save(output / "minilm.safetensors")
    torch.manual_seed(SEED)
    shutil.rmtree(output / "peft", ignore_errors=True)
    peft_lora.build(output)
    gguf_file.write_llama(output / "llama_tied", output / "llama_tied.gguf")
    gguf_file.build(output / "blocks.gguf").save(output / "gguf_blocks.safetensors")
    (output / "metrics.json").write_text(json.dumps(metrics.build(), indent=1) + "\n")


if __name__ == "__main__":
    main()
