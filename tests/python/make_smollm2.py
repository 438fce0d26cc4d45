"""Writes tests/fixtures/smollm2.json: what transformers makes of the fetched SmolLM2, in f32."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from fetch_models import SMOLLM2, fetch

OUTPUT = Path(__file__).resolve().parents[1] / "fixtures" / "smollm2.json"
SENTENCES = [
    "The capital of France is Paris.",
    "In 2024, 1234567 people didn't pay $89.50!",
    "  leading spaces,\ttabs\nand\n\nlines  ",
    "Grüße aus Zürich, naïve café — 東京 🙂",
    "fn main() { let x: Vec<u32> = vec![1, 2, 3]; }",
    "<|im_start|>user\nWhat's up?<|im_end|>\n<|im_start|>assistant\n",
]
PROMPT = "The three primary colours are red, yellow and"
MESSAGES = [{"role": "user", "content": "Name the largest planet of the solar system."}]
NEW_TOKENS = 16
# Of the logits: the largest ones, and every 96th.
LARGEST, STRIDE = 32, 96


def plain_tokenizer(stock: AutoTokenizer) -> Tokenizer:
    """As SmolLM2's own tokenizer.json splits a text: digits one by one, then as GPT-2."""
    tokenizer = stock.backend_tokenizer
    assert isinstance(tokenizer.model, models.BPE)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return tokenizer


def logits_after(model: torch.nn.Module, ids: list[int]) -> dict[str, list]:
    logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
    places = sorted({*logits.topk(LARGEST).indices.tolist(), *range(0, len(logits), STRIDE)})
    return {"tokens": places, "values": logits[places].tolist()}


def continuation(model: torch.nn.Module, ids: list[int]) -> list[int]:
    prompt = torch.tensor([ids])
    said = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
    )
    return said[0, len(ids) :].tolist()


@torch.no_grad()
def main() -> None:
    path = fetch(SMOLLM2)
    source = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    stock = AutoTokenizer.from_pretrained(**source)
    chat = stock.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    tokenizer = plain_tokenizer(stock)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = encode("<|im_end|>")
    cases = []
    for text in (PROMPT, chat):
        ids = encode(text)
        said = continuation(model, ids)
        cases.append({"text": text, "ids": ids, "logits": logits_after(model, ids), "said": said})
    sentences = [{"text": text, "ids": encode(text)} for text in SENTENCES]
    question = MESSAGES[0]["content"]
    content = {"sentences": sentences, "question": question, "cases": cases}
    OUTPUT.write_text(json.dumps(content, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
