#!/usr/bin/env python3
"""Holds hone's tokenizer against Hugging Face's `tokenizers`. For developers alone.

Writes everything into WORK_DIR, from a seed: tokenizers of four families (GPT-2, Qwen2, Llama 3,
DeepSeek V3: their normalizers, split patterns, special tokens and post-processors, trained here on
made-up text), a corpus of lines that mixes languages, code, emoji, control characters and bytes that
are not UTF-8, and bench.txt. Then compares the ids of every line, the text that ids decode to, the
merges that both train, and prints both speeds on one thread.

    tools/check_tokenizer.py HONE BENCH_TOKENIZER WORK_DIR [LINES] [SEED]
    tools/check_tokenizer.py --golden GOLDEN_DIR      the small cases of tests/golden/
"""
import json
import os
import random
import re
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import trainers

HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
TAIL = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = HEAD + r"\p{N}|" + TAIL
LLAMA3 = HEAD + r"\p{N}{1,3}|" + TAIL
DEEPSEEK = [
    r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
    "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|"
    "\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
ADDED = {
    "gpt2": [("<|endoftext|>", dict(special=True, normalized=False))],
    "qwen2": [(name, dict(special=True, normalized=False)) for name in (
        "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|fim_prefix|>")] + [
        (name, dict(special=False, normalized=False)) for name in (
            "<tool_call>", "</tool_call>", "<think>", "</think>")],
    "llama3": [(name, dict(special=True, normalized=False)) for name in (
        "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eot_id|>", "<|python_tag|>")],
    "deepseek": [(name, dict(special=True, normalized=True)) for name in (
        "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>")] + [
        (name, dict(special=False, normalized=True)) for name in (
            "<｜User｜>", "<｜Assistant｜>", "<think>", "</think>")],
    # No family: every flag of added tokens, and a text that form C changes.
    "flags": [("<mask>", dict(lstrip=True, special=True, normalized=False)),
              ("<sep>", dict(rstrip=True, special=True)), ("<both>", dict(lstrip=True, rstrip=True)),
              ("word", dict(single_word=True)), ("e\u0301t\u00e9", dict(normalized=True)),
              ("raw\u0301", dict(normalized=False)), ("  ", dict(normalized=False)),
              ("<\u00e9>", dict(single_word=True, lstrip=True, normalized=False)),
              ("<mask><sep>", dict(normalized=False)), ("\u0301", dict(normalized=True))],
}
SCRIPTS = [(0x61, 0x7A, 6), (0x41, 0x5A, 5), (0xC0, 0x17F, 6), (0x3B1, 0x3C9, 6), (0x430, 0x44F, 6),
           (0x5D0, 0x5EA, 5), (0x627, 0x64A, 5), (0x905, 0x94D, 5), (0xE01, 0xE3A, 8),
           (0x4E00, 0x9FA5, 3), (0x3041, 0x3096, 5), (0x30A1, 0x30FA, 5), (0xAC00, 0xD7A3, 3),
           (0x1100, 0x11FF, 4), (0x531, 0x556, 5), (0x10A0, 0x10C5, 5), (0x1E00, 0x1EFF, 4),
           (0x660, 0x669, 3), (0x2160, 0x2188, 2), (0x1D400, 0x1D7FF, 3), (0xAB5, 0xAE3, 4)]
EMOJI = ["🙂", "👨‍👩‍👧‍👦", "🏳️‍🌈", "👍🏽", "🇩🇪", "❤️", "🤖", "✨", "1️⃣", "🫠"]
ODD = ["\u00a0", "\u3000", "\u2028", "\u2029", "\u0085", "\u180e", "\u200b", "\u200d", "\ufeff",
       "\ufffd", "\x00", "\x01", "\x7f", "\x1f", "\x0b", "\x0c", "\u0301", "\u0323", "\u0308",
       "\u212b", "\u2126", "\u0958", "\u017f", "'\u017f", "\u1e9e", "\ufb01", "\ud7b0", "\u0378",
       "\ue000", "\U000e0001", "\U0010ffff", "\u2163", "½", "²", "‿", "_", "\u0300\u0316"]
BROKEN = [b"\xff", b"\xc3", b"\xe4\xb8", b"\xf0\x9f\x99", b"\xc0\x80", b"\xed\xa0\x80", b"\x80",
          b"\xf5\x80\x80\x80", b"\xe0\x80\x80", b"\xf4\x90\x80\x80", b"\xfe\xfe"]
WORDS = ("the of and to in is that it was for on are as with his they at be this have from or one had "
         "by word but not what all were we when your can said there use an each which she do how their "
         "if will up other about out many then them these so some her would make like him into time "
         "has look two more write go see number no way could people my than first water been call who "
         "oil its now find long down day did get come made may part reasoning answer therefore").split()
CODE = ["for (int i = 0; i < n; i++) {\n    sum += a[i] * b[i];\n}\n", "def f(x):\n\treturn x ** 2\n",
        "if (x != NULL && *x == '\\0')\n", "#include <stdio.h>\n", "SELECT * FROM t WHERE id=42;\n",
        "{\"key\": [1, 2.5e-3, null]}", "<a href=\"https://example.org/?q=1&r=2\">", "x->y->z();",
        "\\frac{1}{2} \\sum_{i=0}^{n} x_i^2", "let v: Vec<u8> = vec![0u8; 1024];\n", "!!!", "...", "=====",
        "  \n \n\n", "\r\n\r\n", "\t\t", "        return 0;\n", "$HOME/.config", "I'm they'LL we'Ve he'd it'S"]


def piece(rng):
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(WORDS)
    if kind < 0.60:
        low, high, length = rng.choice(SCRIPTS)
        return "".join(chr(rng.randint(low, high)) for _ in range(rng.randint(1, length)))
    if kind < 0.70:
        return str(rng.randint(0, 10 ** rng.randint(1, 12)))
    if kind < 0.80:
        return rng.choice(CODE)
    if kind < 0.86:
        return rng.choice(EMOJI)
    if kind < 0.93:
        return rng.choice(ODD)
    return rng.choice([name for added in ADDED.values() for name, _ in added])


def line(rng):
    """Bytes; one in ten holds some that are not UTF-8."""
    parts = []
    for _ in range(rng.randint(1, 14)):
        parts.append(piece(rng).encode())
        parts.append(rng.choice(["", " ", " ", "  ", "\n", ", ", ". "]).encode())
        if rng.random() < 0.01:
            parts.append(rng.choice(BROKEN))
    return b"".join(parts)


def prose(rng, n_lines):
    """What is trained on and timed: mostly words and code, a fifth other scripts, distinct words."""
    made = ["".join(rng.choice(["ba", "ne", "ti", "cor", "sta", "un", "re", "ing", "lo", "pha", "ed"])
                    for _ in range(rng.randint(1, 4))) for _ in range(20000)]
    for _ in range(n_lines):
        parts = []
        for _ in range(rng.randint(4, 30)):
            roll = rng.random()
            parts.append(rng.choice(WORDS) if roll < 0.45 else
                         made[min(int(rng.paretovariate(0.6)), len(made)) - 1] if roll < 0.75
                         else piece(rng) if roll < 0.95 else rng.choice(CODE))
        yield " ".join(parts).replace("\x00", "")


def build(family, text, vocab):
    tokenizer = tokenizers.Tokenizer(models.BPE(ignore_merges=family == "llama3"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=family == "gpt2")
    patterns = {"qwen2": [QWEN2], "llama3": [LLAMA3], "deepseek": DEEPSEEK,
                "flags": [r"[^\p{L}]+(?=\p{L})|\s+$|.{3}"]}.get(family, [])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns] + [byte_level])
    if family in ("qwen2", "flags"):
        tokenizer.normalizer = normalizers.NFC()
    if family == "deepseek":
        tokenizer.normalizer = normalizers.Sequence([])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    for content, flags in ADDED[family]:
        tokenizer.add_tokens([AddedToken(content, **flags)])
        if flags.get("special"):
            tokenizer.add_special_tokens([AddedToken(content, **flags)])
    if family == "llama3":
        bos = "<|begin_of_text|>"
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single=bos + " $A", pair=bos + " $A " + bos + " $B",
                                          special_tokens=[(bos, tokenizer.token_to_id(bos))])])
    return tokenizer


ALPHABET = {}


def byte_name(byte):
    if not ALPHABET:
        shifted = 0
        for b in range(256):
            if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174:
                ALPHABET[b] = chr(b)
            else:
                ALPHABET[b] = chr(256 + shifted)
                shifted += 1
    return ALPHABET[byte]


def expected_ids(tokenizer, raw):
    """Runs of bytes that are not UTF-8 are pieces of their own for the model."""
    ids = []
    for part in split_valid(raw):
        if isinstance(part, str):
            ids += tokenizer.encode(part, add_special_tokens=False).ids
        else:
            ids += [t.id for t in tokenizer.model.tokenize("".join(map(byte_name, part)))]
    return ids


def split_valid(raw):
    text = raw.decode("utf-8", "surrogateescape")
    for part in re.findall("[\udc80-\udcff]+|[^\udc80-\udcff]+", text):
        yield part.encode("utf-8", "surrogateescape") if "\udc80" <= part[0] <= "\udcff" else part


def escape(raw):
    return raw.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")


def unescape(text):
    table = {b"\\n": b"\n", b"\\r": b"\r", b"\\\\": b"\\"}
    return re.sub(rb"\\(?:x([0-9A-F]{2})|.)", lambda m: bytes([int(m[1], 16)]) if m[1]
                  else table[m[0]], text)


def check_family(hone, directory, tokenizer, corpus, path):
    ids_path = os.path.join(directory, "ids.txt")
    with open(ids_path, "wb") as out:
        subprocess.run([hone, "tokenizer", "encode", "--tokenizer", directory, "--escapes",
                        "--text", path], stdout=out, check=True)
    decoded = subprocess.run([hone, "tokenizer", "decode", "--tokenizer", directory, "--escapes",
                              "--text", ids_path], stdout=subprocess.PIPE, check=True).stdout
    differ = wrong_text = n_ids = n_invalid = 0
    with open(ids_path, "rb") as ids_file:
        got = [list(map(int, text.split())) for text in ids_file]
    texts = decoded.split(b"\n")[:-1]
    assert len(got) == len(corpus) == len(texts), (len(got), len(corpus), len(texts))
    for raw, ids, text in zip(corpus, got, texts):
        want = expected_ids(tokenizer, raw)
        n_ids += len(want)
        n_invalid += any(not isinstance(part, str) for part in split_valid(raw))
        if ids != want:
            differ += 1
            if differ < 5:
                print("  ids differ:", raw, "\n    hone", ids, "\n    want", want)
        expected = tokenizer.decode(want, skip_special_tokens=False)
        if unescape(text).decode("utf-8", "replace") != expected:
            wrong_text += 1
            if wrong_text < 5:
                print("  text differs:", raw, unescape(text), expected.encode())
    print(f"  {len(corpus)} lines, {n_ids} ids, {n_invalid} lines with invalid bytes: "
          f"{differ} lines with other ids, {wrong_text} with another text")
    return differ + wrong_text


def time_hugging_face(tokenizer, lines):
    """The better of one call per line and one call for all."""
    n_bytes = sum(len(text.encode()) for text in lines)
    best = 0
    for _ in range(2):
        start = time.perf_counter()
        for text in lines:
            tokenizer.encode(text, add_special_tokens=False)
        middle = time.perf_counter()
        tokenizer.encode_batch_fast(lines, add_special_tokens=False)
        end = time.perf_counter()
        best = max(best, n_bytes / (middle - start) / 1e6, n_bytes / (end - middle) / 1e6)
    return best


def check_training(hone, work, text, split, vocab):
    """hone tokenizer train against BpeTrainer: the same file of ids, merges and text."""
    path, directory = os.path.join(work, "train.jsonl"), os.path.join(work, "trained_" + split)
    with open(path, "w", encoding="ascii") as out:
        for document in text:
            out.write(json.dumps({"text": document}) + "\n")
    start = time.perf_counter()
    subprocess.run([hone, "tokenizer", "train", "--text", path, "--vocab", str(vocab), "--split", split,
                    "--out", directory, "--special", "<|endoftext|>", "--special", "<|im_end|>"],
                   check=True, stderr=subprocess.DEVNULL)
    ours_s = time.perf_counter() - start
    ours = tokenizers.Tokenizer.from_file(os.path.join(directory, "tokenizer.json"))
    theirs = tokenizers.Tokenizer(models.BPE())
    theirs.normalizer, theirs.pre_tokenizer = ours.normalizer, ours.pre_tokenizer
    start = time.perf_counter()
    theirs.train_from_iterator(text, trainers.BpeTrainer(
        vocab_size=vocab, show_progress=False, special_tokens=["<|endoftext|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    theirs_s = time.perf_counter() - start
    a, b = (json.loads(t.to_str())["model"] for t in (ours, theirs))
    same = sum(x == y for x, y in zip(a["merges"], b["merges"]))
    print(f"train {split}: {sum(map(len, text)) / 1e6:.1f} M characters, {vocab} tokens: hone "
          f"{ours_s:.2f} s, HF {theirs_s:.2f} s; {same} of {len(b['merges'])} merges the same, "
          f"vocabulary {'the same' if a['vocab'] == b['vocab'] else 'DIFFERS'}")
    return ours, a == b


def write_golden(root):
    rng = random.Random(3)
    text = list(prose(rng, 300))
    corpus = [raw.decode() for raw in (line(rng) for _ in range(400)) if is_valid(raw)][:200]
    for family, vocab in (("llama3", 500), ("deepseek", 500), ("flags", 300)):
        directory = os.path.join(root, "tokenizer_" + family)
        os.makedirs(directory, exist_ok=True)
        tokenizer = build(family, text, vocab)
        tokenizer.save(os.path.join(directory, "tokenizer.json"), pretty=False)
        with open(os.path.join(directory, "cases.jsonl"), "w", encoding="ascii") as out:
            for case in corpus:
                ids = tokenizer.encode(case, add_special_tokens=False).ids
                out.write(json.dumps({"text": case, "ids": ids}) + "\n")


def is_valid(raw):
    return all(isinstance(part, str) for part in split_valid(raw))


def main():
    if sys.argv[1] == "--golden":
        return write_golden(sys.argv[2])
    hone, bench, work = sys.argv[1:4]
    n_lines = int(sys.argv[4]) if len(sys.argv) > 4 else 20000
    rng = random.Random(int(sys.argv[5]) if len(sys.argv) > 5 else 1)
    os.makedirs(work, exist_ok=True)
    text = list(prose(rng, 20000))
    corpus = [line(rng) for _ in range(n_lines)]
    path, bench_path = os.path.join(work, "corpus.txt"), os.path.join(work, "bench.txt")
    with open(path, "wb") as out:
        out.write(b"".join(escape(raw) + b"\n" for raw in corpus))
    timed = [part for document in prose(rng, 30000) for part in document.split("\n")]
    with open(bench_path, "w", encoding="utf-8", newline="\n") as out:
        out.write("\n".join(timed) + "\n")
    bad = 0
    for family, vocab in (("gpt2", 8000), ("qwen2", 8000), ("llama3", 8000), ("deepseek", 8000),
                          ("flags", 2000)):
        tokenizer = build(family, text, vocab)
        directory = os.path.join(work, family)
        os.makedirs(directory, exist_ok=True)
        tokenizer.save(os.path.join(directory, "tokenizer.json"))
        print(f"{family}: {tokenizer.get_vocab_size()} tokens")
        bad += check_family(hone, directory, tokenizer, corpus, path)
        theirs = time_hugging_face(tokenizer, timed)
        ours = subprocess.run([bench, directory, bench_path], stdout=subprocess.PIPE, check=True,
                              text=True).stdout.strip()
        print(f"  HF {theirs:.2f} MB/s; hone {ours}", flush=True)
    for split in ("gpt2", "qwen2", "llama3"):
        trained, same = check_training(hone, work, text, split, 4096)
        bad += not same
        bad += check_family(hone, os.path.join(work, "trained_" + split), trained, corpus, path)
    sys.exit(bad != 0)


if __name__ == "__main__":
    main()
