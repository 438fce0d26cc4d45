"""Writes native/assets/base: the small ViT that every run on the bundled images starts from.

Pre-trained on MNIST's training part alone; one thread and a fixed seed.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import ViTConfig

import packages
from image_data import IMAGE_SIDE, LabelledImages, load_mnist
from vit import VisionTransformer

SEED = 7
STEPS = 900
BATCH = 64
# Hugging Face's 0.02 leaves the 900 steps with little sense of place: 96.1 % instead of 97.2 %. But
# it was chosen, among six variants, by the validation figures of EBO and EBLoRA that follow from it.
POSITION_SPREAD = 0.5
PEAK_RATE = 2e-3
PIXEL_MEAN, PIXEL_SCALE = 0.2, 0.33
LOGIT_SCALE = 12.0
CLOTHES = (
    "t-shirt trouser pullover dress coat sandal shirt sneaker bag".split() + ["ankle boot"]
)
LABELS = [f"digit {digit}" for digit in range(10)] + CLOTHES
DEFAULT_OUTPUT = Path(__file__).resolve().parents[2] / "native" / "assets" / "base"


def base_config() -> ViTConfig:
    """A plain ViT configuration and our four extra keys."""
    return ViTConfig(
        architectures=["ViTForImageClassification"],
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=192,
        image_size=IMAGE_SIDE,
        patch_size=7,
        num_channels=1,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
        dtype="float32",
        use_class_token=False,
        pooling="mean",
        head="prototype",
        logit_scale=LOGIT_SCALE,
    )


def image_processor() -> dict:
    """The fields of a preprocessor_config.json."""
    return {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [PIXEL_MEAN],
        "image_processor_type": "ViTImageProcessor",
        "image_std": [PIXEL_SCALE],
        "resample": 2,
        "rescale_factor": 1 / 255,
        "size": {"height": IMAGE_SIDE, "width": IMAGE_SIDE},
    }


def save(model: VisionTransformer, output: Path) -> None:
    model.config.save_pretrained(output)
    fields = json.dumps(image_processor(), indent=2)
    (output / "preprocessor_config.json").write_text(fields + "\n")
    save_file(model.file_tensors(), output / "model.safetensors", {"format": "pt"})


def normalised_pixels(images: np.ndarray) -> Tensor:
    """Bytes [n, h, w] to pixels [n, 1, h, w]."""
    return (torch.from_numpy(images.copy()).unsqueeze(1) / 255 - PIXEL_MEAN) / PIXEL_SCALE


def initialise(model: VisionTransformer) -> None:
    """PyTorch's own initialisation of the layers, positions large enough to tell the patches apart
    from the first step on, and frozen prototypes with orthonormal rows."""
    nn.init.normal_(model.vit.embeddings.position_embeddings, std=POSITION_SPREAD)
    nn.init.orthogonal_(model.classifier.weight)
    model.classifier.requires_grad_(False)


def pretrain(model: VisionTransformer, data: LabelledImages) -> None:
    """AdamW with a one-cycle rate; cross-entropy over all labels, those of clothes included."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=STEPS)
    order = torch.randperm(len(data.labels))[: STEPS * BATCH].view(STEPS, BATCH)
    labels = torch.from_numpy(data.labels.astype(np.int64))
    for step, rows in enumerate(order):
        logits = model(normalised_pixels(data.images[rows.numpy()]))
        loss = functional.cross_entropy(logits, labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.4f}")


@torch.no_grad()
def accuracy(model: VisionTransformer, data: LabelledImages) -> float:
    """Share of images whose highest logit, over all labels, is that of their own label."""
    correct = 0
    for rows in np.array_split(np.arange(len(data.labels)), 10):
        predicted = model(normalised_pixels(data.images[rows])).argmax(dim=-1).numpy()
        correct += int((predicted == data.labels[rows]).sum())
    return correct / len(data.labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=packages.DEFAULT_CACHE)
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(SEED)
    model = VisionTransformer(base_config())
    initialise(model)
    pretrain(model, load_mnist("train", arguments.cache))
    print(f"test accuracy: {accuracy(model, load_mnist('test', arguments.cache)):.2%}")

    save(model, arguments.output)


if __name__ == "__main__":
    main()
