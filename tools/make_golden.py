#!/usr/bin/env python3
"""Writes tests/golden/: what PyTorch and transformers compute for tiny random models.

For developers alone: neither the build nor the tests run it. Needs torch, transformers (4.51 or
later, for Qwen3), tokenizers and safetensors; their versions are written beside the numbers.

    tools/make_golden.py [OUT_DIR [NAME...]]
"""
import json
import os
import random
import sys

import safetensors
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

SEGMENTS = (7, 1, 12)      # lengths of the packed sequences
ADAMW_STEPS = 10
GREEDY_PROMPT, GREEDY_NEW = 5, 16

COMMON = dict(num_hidden_layers=2, max_position_embeddings=64, attention_dropout=0.0,
              bos_token_id=None, eos_token_id=1, attn_implementation="eager")
FAMILIES = {
    "llama": transformers.LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=56, num_attention_heads=4,
        num_key_value_heads=2, rope_theta=10000.0, rms_norm_eps=1e-5,
        tie_word_embeddings=False, pad_token_id=None, **COMMON),
    # A small base: where keys hardly turn, the gradient of their bias is close to 0, and AdamW
    # makes whole steps of its rounding errors.
    "qwen2": transformers.Qwen2Config(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_attention_heads=4,
        num_key_value_heads=4, rope_theta=100.0, rms_norm_eps=1e-6,
        tie_word_embeddings=True, **COMMON),
    "qwen3": transformers.Qwen3Config(
        vocab_size=112, hidden_size=32, intermediate_size=40, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, rope_theta=1000000.0, rms_norm_eps=1e-6,
        tie_word_embeddings=True, **COMMON),
    "mistral": transformers.MistralConfig(
        vocab_size=80, hidden_size=32, intermediate_size=40, num_attention_heads=4,
        num_key_value_heads=2, rope_theta=10000.0, rms_norm_eps=1e-5, sliding_window=None,
        tie_word_embeddings=False, **COMMON),
}

# One layer each: what stretches the positions, and how the weights lie in files.
FAR_STRIDE = 97            # far positions are multiples of it
VARIANT_TOKENS = 40
SMALL = dict(COMMON, num_hidden_layers=1, vocab_size=64, hidden_size=32, intermediate_size=40,
             num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=4096)
VARIANTS = {
    "rope_linear": transformers.LlamaConfig(
        rope_scaling={"rope_type": "linear", "factor": 4.0}, tie_word_embeddings=True, **SMALL),
    "rope_dynamic": transformers.LlamaConfig(
        rope_scaling={"rope_type": "dynamic", "factor": 2.0}, tie_word_embeddings=True, **SMALL),
    "rope_llama3": transformers.LlamaConfig(
        rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                      "high_freq_factor": 4.0, "original_max_position_embeddings": 512},
        rope_theta=10000.0, tie_word_embeddings=True, **SMALL),
    "rope_yarn": transformers.Qwen2Config(
        rope_scaling={"rope_type": "yarn", "factor": 4.0,
                      "original_max_position_embeddings": 1024},
        tie_word_embeddings=False, **SMALL),
    "rope_yarn_set": transformers.Qwen3Config(
        rope_scaling={"rope_type": "yarn", "factor": 4.0, "attention_factor": 1.3,
                      "beta_fast": 16.0, "beta_slow": 2.0,
                      "original_max_position_embeddings": 1024},
        head_dim=16, tie_word_embeddings=False, **SMALL),
    "files_f16": transformers.Qwen2Config(
        rope_scaling={"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 0.7},
        tie_word_embeddings=True, **SMALL),
    "files_bf16_shards": transformers.LlamaConfig(tie_word_embeddings=False, **SMALL),
}
FILE_DTYPES = {"files_f16": torch.float16, "files_bf16_shards": torch.bfloat16}


def randomise(model):
    """Wider than the usual start, so that no part of the model is close to idle."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            parameter.data.normal_(0.0, 0.25)
        elif name.endswith(".bias"):
            parameter.data.normal_(0.0, 0.1)
        else:
            parameter.data.normal_(1.0, 0.1)


def segment_logits(model, tokens):
    """Each segment on its own: nothing can leak from one into the next."""
    return [model(input_ids=part[None]).logits[0] for part in torch.split(tokens, SEGMENTS)]


def loss_of(model, tokens, rows, targets, temperature=1.0):
    logits = torch.cat(segment_logits(model, tokens))[rows] / temperature
    logprobs = torch.log_softmax(logits, dim=-1)
    chosen = logprobs.gather(1, targets[:, None])[:, 0]
    entropy = -(logprobs.exp() * logprobs).sum(-1)
    return -chosen.mean(), logits, chosen, entropy


def golden_batch(vocab_size):
    n = sum(SEGMENTS)
    tokens = torch.randint(0, vocab_size, (n,))
    positions = torch.cat([torch.arange(length) for length in SEGMENTS])
    bounds = torch.tensor([0, *torch.tensor(SEGMENTS).cumsum(0).tolist()])
    rows = torch.tensor([r for r in range(n) if r % 5 != 2])
    targets = torch.randint(0, vocab_size, (len(rows),))
    return tokens, positions, bounds, rows, targets


def greedy(model, prompt):
    tokens = prompt.tolist()
    with torch.no_grad():
        for _ in range(GREEDY_NEW):
            logits = model(input_ids=torch.tensor([tokens])).logits[0, -1]
            tokens.append(int(logits.argmax()))
    return tokens[len(prompt):]


def write_family(family, out_dir):
    torch.manual_seed(sum(map(ord, family)))
    model = transformers.AutoModelForCausalLM.from_config(
        FAMILIES[family], attn_implementation="eager").float().eval()
    randomise(model)
    model.save_pretrained(out_dir, safe_serialization=True)
    os.remove(os.path.join(out_dir, "generation_config.json"))
    tokens, positions, bounds, rows, targets = golden_batch(model.config.vocab_size)
    golden = {"tokens": tokens, "positions": positions, "segments": bounds, "target_rows": rows,
              "targets": targets, "greedy.prompt": tokens[:GREEDY_PROMPT],
              "greedy.tokens": torch.tensor(greedy(model, tokens[:GREEDY_PROMPT]))}
    golden = {name: value.to(torch.int32) for name, value in golden.items()}

    loss, logits, logprobs, entropy = loss_of(model, tokens, rows, targets)
    loss.backward()
    golden |= {"loss": loss[None], "logits": logits, "logprobs": logprobs, "entropy": entropy}
    for name, parameter in model.named_parameters():
        golden["grad." + name] = parameter.grad
    _, _, golden["logprobs_0.7"], golden["entropy_0.7"] = loss_of(model, tokens, rows, targets, 0.7)

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8,
                                  weight_decay=0.01, foreach=False)
    losses = []
    for _ in range(ADAMW_STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, tokens, rows, targets)[0]
        loss.backward()
        losses.append(float(loss.detach()))
        optimizer.step()
    golden["adamw.losses"] = torch.tensor(losses)
    for name, parameter in model.named_parameters():
        golden["adamw." + name] = parameter
    save_file({name: value.detach().clone().contiguous() for name, value in golden.items()},
              os.path.join(out_dir, "golden.safetensors"))
    for name in ("model.safetensors", "golden.safetensors"):
        os.chmod(os.path.join(out_dir, name), 0o644)


def write_variant(name, out_dir):
    """A model as its file says it, computed in float32: near positions, and far ones."""
    torch.manual_seed(sum(map(ord, name)))
    model = transformers.AutoModelForCausalLM.from_config(
        VARIANTS[name], attn_implementation="eager").float().eval()
    randomise(model)
    model = model.to(FILE_DTYPES.get(name, torch.float32))
    model.save_pretrained(out_dir, safe_serialization=True,
                          max_shard_size="12KB" if "shards" in name else "1GB")
    os.remove(os.path.join(out_dir, "generation_config.json"))
    # Loaded anew: a model that was half for a while has rounded frequencies.
    model = transformers.AutoModelForCausalLM.from_pretrained(
        out_dir, torch_dtype=torch.float32, attn_implementation="eager").eval()
    tokens = torch.randint(0, model.config.vocab_size, (VARIANT_TOKENS,))
    targets = torch.randint(0, model.config.vocab_size, (VARIANT_TOKENS,))
    golden = {"tokens": tokens, "targets": targets, "greedy.prompt": tokens[:GREEDY_PROMPT],
              "greedy.tokens": torch.tensor(greedy(model, tokens[:GREEDY_PROMPT]))}
    golden = {key: value.to(torch.int32) for key, value in golden.items()}
    golden["logits"] = model(input_ids=tokens[None]).logits[0]
    positions = torch.arange(VARIANT_TOKENS)[None] * FAR_STRIDE
    far = model(input_ids=tokens[None], position_ids=positions).logits[0]
    logprobs = torch.log_softmax(far, dim=-1).gather(1, targets[:, None])[:, 0]
    golden["far.logprobs"] = logprobs
    (-logprobs.mean()).backward()
    for key, parameter in model.named_parameters():
        golden["far.grad." + key] = parameter.grad
    save_file({key: value.detach().clone().contiguous() for key, value in golden.items()},
              os.path.join(out_dir, "golden.safetensors"))
    for file in os.listdir(out_dir):
        os.chmod(os.path.join(out_dir, file), 0o644)


# ---- Tokenizers

QWEN2_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
               r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")

LINES = [
    "", " ", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "a", " a", "a ", "  a  ", "\ta\t\tb",
    "Hello, world!", "The quick brown fox jumps over the lazy dog.",
    "It's what they're saying: we've won, I'm sure you'll agree he'd do it, don't.",
    "IT'S WHAT THEY'RE SAYING; WE'VE; I'M; YOU'LL; HE'D; DON'T",
    "12345 67 8.9 1,000,000 3.14159 -42 +7 1e-5 0xFF", "x = (-b + sqrt(b**2 - 4*a*c)) / (2*a)",
    "for (int i = 0; i < n; i++) {\n    sum += a[i] * b[i];\n}\n",
    "def f(x):\n\treturn {'k': [x, x ** 2]}\n\n\nprint(f(3))",
    "<think>\nLet me see: 3 + 4 = 7.\n</think>\n<answer>7</answer><|endoftext|>",
    "<|endoftext|><|endoftext|>", "<|endoftext|", "<|endoftext|>>", "<think", "<<think>>",
    "<think><think>x</think>", "a<|im_end|>b <|im_start|>user\nhi", "<|endoftext|> <|endoftext|>",
    "<|tool|>", "<|tool|>s", "<|tool_call|>", "<|tool|><|tool_call|>", "🙂<think>🙂",
    "Größe, Straße, Übermut, naïve café, déjà vu, coöperate, Ærøskøbing, Łódź, Čeština",
    "Быстрая коричневая лиса прыгает через ленивую собаку. 2024 год.",
    "Η γρήγορη καφέ αλεπού πηδάει πάνω από το τεμπέλικο σκυλί.",
    "敏捷的棕色狐狸跳过了懒狗。价格是¥128元。", "素早い茶色の狐がのろまな犬を飛び越える。カタカナ、ひらがな。",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다.", "الثعلب البني السريع يقفز فوق الكلب الكسول ١٢٣",
    "השועל החום המהיר קופץ", "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है", "สุนัขจิ้งจอกสีน้ำตาล",
    "🙂🙃😀 👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷", "→ ← ↑ ↓ ∀x∈ℝ: ∑ᵢ xᵢ² ≥ 0, √2 ≠ 1.5, ½ ¾ Ⅷ ①②③",
    "“quotes” ‘single’ – dash — long… §5 ©®™ €100 £5", "e\u0301 vs \u00e9; n\u0303; A\u030a; \u212b; \ufb01",
    "\u1112\u1161\u11ab \ud55c \uac00\u11a8", "a\u0323\u0307 a\u0307\u0323 \u1e69 s\u0323\u0307",
    "\u0958 \u0929 \u0928\u093c \u2126 \u00a0nbsp\u00a0 \u3000wide\u2003em\u2009thin\u200bzero",
    "tab\tsep\tvals\n  indented\n    more\n\n\n   \n end   ", "   \n   \n", "a\n\n\nb\n \n c", "\x00\x01\x7f",
    "http://example.org/path?x=1&y=2#frag", "foo_bar fooBar FOO-BAR foo.bar@baz.com C++ C# .NET",
    "'s 't 're ' 's'S 'LL 'Ve '\u017f", "x'y'z ''' `` \"\"", "!!!???...,,,;;;", "a\u2028b\u2029c\u0085d\u180ee",
    "\u0130stanbul \u0131 \u01c5 \u02b0 \u0300 \u0660\u0661 \U0001d7ce\U0001d400", "\ufeffBOM", "\ufffd\ufffe",
    "0" * 50, "a" * 100, " " * 64, "\n" * 33, "ab" * 40, "=" * 80, "é" * 20, "字" * 20,
]
ADDED = [("<|endoftext|>", True), ("<|im_start|>", True), ("<|im_end|>", True),
         ("<think>", False), ("</think>", False), ("<|tool|>", False), ("<|tool_call|>", False)]


def case_lines(n):
    lines = list(LINES)
    random.seed(12)
    while len(lines) < n:
        parts = []
        for _ in range(random.randint(2, 6)):
            line = random.choice(LINES)
            start = random.randrange(len(line) + 1)
            parts.append(line[start:start + random.randint(1, 14)])
        lines.append(random.choice(["", " ", "\n"]).join(parts))
    return lines


def train(vocab_size, qwen2_split, n_added):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False,
                                                     use_regex=not qwen2_split)
    if qwen2_split:
        tokenizer.normalizer = tokenizers.normalizers.NFC()
        split = tokenizers.pre_tokenizers.Split(tokenizers.Regex(QWEN2_SPLIT), "isolated")
        byte_level = tokenizers.pre_tokenizers.Sequence([split, byte_level])
    tokenizer.pre_tokenizer = byte_level
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size - n_added, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(LINES * 2, trainer)
    for content, special in ADDED[:n_added]:
        tokenizer.add_tokens([tokenizers.AddedToken(content, special=special,
                                                    normalized=not special)])
        if special:
            tokenizer.add_special_tokens([content])
    return tokenizer


def write_tokenizer(tokenizer, out_dir, n_cases):
    tokenizer.save(os.path.join(out_dir, "tokenizer.json"), pretty=False)
    if not n_cases:
        return
    with open(os.path.join(out_dir, "cases.jsonl"), "w", encoding="ascii") as out:
        for line in case_lines(n_cases):
            ids = tokenizer.encode(line, add_special_tokens=False).ids
            out.write(json.dumps({"text": line, "ids": ids}) + "\n")


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden")
    tokenizer_names = ("tokenizer", "tokenizer_qwen2")
    wanted = sys.argv[2:] or (*FAMILIES, *VARIANTS, *tokenizer_names)
    torch.set_num_threads(1)
    for name in wanted:
        out_dir = os.path.join(root, name)
        os.makedirs(out_dir, exist_ok=True)
        if name in FAMILIES:
            write_family(name, out_dir)
        elif name in VARIANTS:
            write_variant(name, out_dir)
        elif name in tokenizer_names:
            write_tokenizer(train(600, name == "tokenizer_qwen2", len(ADDED)), out_dir, 200)
        else:
            sys.exit(f"{name} is unknown")
        if name == "qwen2":
            write_tokenizer(train(300, True, 3), out_dir, 0)
    with open(os.path.join(root, "versions.txt"), "w", encoding="ascii") as out:
        for module in (torch, transformers, tokenizers, safetensors):
            out.write(f"{module.__name__} {module.__version__.split('+')[0]}\n")


if __name__ == "__main__":
    main()
