"""The reference ViT: the blocks of Hugging Face's ViT, with the pooling and head of our bases.

Its modules carry the names of transformers 5 (`vit.layers.0.attention.q_proj`); a saved folder
holds the names that stock `save_pretrained` writes (`vit.encoder.layer.0.attention.attention.query`,
the names of transformers 4).
"""

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

MODULE_TO_FILE_NAMES = (
    ("vit.layers.", "vit.encoder.layer."),
    (".attention.q_proj", ".attention.attention.query"),
    (".attention.k_proj", ".attention.attention.key"),
    (".attention.v_proj", ".attention.attention.value"),
    (".attention.o_proj", ".attention.output.dense"),
    (".mlp.fc1", ".intermediate.dense"),
    (".mlp.fc2", ".output.dense"),
)


def file_name(module_name: str) -> str:
    """A tensor's name in the saved file, from its name in the module."""
    for module_part, file_part in MODULE_TO_FILE_NAMES:
        module_name = module_name.replace(module_part, file_part)
    return module_name


def load_config(folder: Path) -> SimpleNamespace:
    """config.json with the keys that plain Hugging Face folders lack filled in."""
    fields = json.loads((folder / "config.json").read_text())
    ours = {"use_class_token": True, "pooling": "cls", "head": "linear", "logit_scale": 1.0}
    return SimpleNamespace(**(ours | fields), num_labels=len(fields["id2label"]))


class AdaptedLinear(nn.Linear):
    """`y = x Wᵀ + b`, to which an adapter, where one is set, adds its part: `adapter(x, y)`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.adapter: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.adapter is None else self.adapter(x, y)


class Attention(nn.Module):
    """Unmasked self-attention over x [batch, tokens, hidden]."""

    def __init__(self, config):
        super().__init__()
        self.heads = config.num_attention_heads
        width = config.hidden_size
        self.q_proj = AdaptedLinear(width, width)
        self.k_proj = AdaptedLinear(width, width)
        self.v_proj = AdaptedLinear(width, width)
        self.o_proj = AdaptedLinear(width, width)

    def split_heads(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        return x.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self.split_heads(p(x)) for p in (self.q_proj, self.k_proj, self.v_proj))
        mixed = functional.scaled_dot_product_attention(q, k, v)
        return self.o_proj(mixed.transpose(1, 2).reshape(x.shape))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.fc1 = AdaptedLinear(config.hidden_size, config.intermediate_size)
        self.fc2 = AdaptedLinear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layernorm_before = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = Attention(config)
        self.layernorm_after = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.layernorm_before(x))
        return x + self.mlp(self.layernorm_after(x))


class PatchEmbeddings(nn.Module):
    """Pixels [b, c, h, w] to tokens [b, patches, hidden], patches row by row."""

    def __init__(self, config):
        super().__init__()
        size = config.patch_size
        self.projection = nn.Conv2d(config.num_channels, config.hidden_size, size, stride=size)

    def forward(self, pixels: Tensor) -> Tensor:
        weight = self.projection.weight.flatten(1)
        patches = patchify(pixels, self.projection.kernel_size[0])
        return functional.linear(patches, weight, self.projection.bias)


class Embeddings(nn.Module):
    def __init__(self, config):
        super().__init__()
        tokens = (config.image_size // config.patch_size) ** 2
        if config.use_class_token:
            tokens += 1
            self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        else:
            self.cls_token = None
        self.patch_embeddings = PatchEmbeddings(config)
        self.position_embeddings = nn.Parameter(torch.zeros(1, tokens, config.hidden_size))

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.patch_embeddings(pixels)
        if self.cls_token is not None:
            tokens = torch.cat([self.cls_token.expand(len(tokens), -1, -1), tokens], dim=1)
        return tokens + self.position_embeddings


class Encoder(nn.Module):
    """Embeddings, blocks and the final layer norm."""

    def __init__(self, config):
        super().__init__()
        self.embeddings = Embeddings(config)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embeddings(pixels)
        for layer in self.layers:
            x = layer(x)
        return self.layernorm(x)


class VisionTransformer(nn.Module):
    """Pixels [b, c, h, w] to logits [b, labels].

    A "prototype" head has unit rows and no bias: `logit_scale · normalize(pooled) · Pᵀ`.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.vit = Encoder(config)
        has_bias = config.head == "linear"
        self.classifier = nn.Linear(config.hidden_size, config.num_labels, bias=has_bias)

    def forward(self, pixels: Tensor) -> Tensor:
        tokens = self.vit(pixels)
        pooled = tokens.mean(dim=1) if self.config.pooling == "mean" else tokens[:, 0]
        if self.config.head == "linear":
            return self.classifier(pooled)
        return self.config.logit_scale * self.classifier(functional.normalize(pooled, dim=-1))

    def adapted_linears(self) -> dict[str, AdaptedLinear]:
        """The encoder's linears by site: the name of the weight in the file, less `.weight`."""
        return {
            file_name(name): module
            for name, module in self.named_modules()
            if isinstance(module, AdaptedLinear)
        }

    def file_tensors(self) -> dict[str, Tensor]:
        return {file_name(name): tensor for name, tensor in self.state_dict().items()}


def patchify(pixels: Tensor, size: int) -> Tensor:
    """Pixels [b, c, h, w] to [b, tokens, c·size·size], each row as a flattened conv weight."""
    batch, channels, height, width = pixels.shape
    grid = pixels.reshape(batch, channels, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * size * size)


def load(folder: Path) -> VisionTransformer:
    """The model of a saved folder, in the type of its weights."""
    model = VisionTransformer(load_config(folder))
    weights = load_file(folder / "model.safetensors")
    model.load_state_dict({name: weights[file_name(name)] for name in model.state_dict()})
    return model.eval()
