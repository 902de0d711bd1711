#!/usr/bin/env python3
"""Exports model folders with hone and loads both with transformers: logits, greedy text, bytes.

For developers alone. Needs torch and transformers. Prints one row per folder and dtype; fails when
float32 logits differ by more than 1e-5, or when a tensor that fits its dtype changes.

    tools/check_export.py HONE [FOLDER...]     (default: the models of tests/golden/)
"""
import glob
import json
import os
import subprocess
import sys
import tempfile

import safetensors
import torch
import transformers

LONGEST = 40
NEW_TOKENS = 12


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager").eval()


def read_tensors(folder):
    tensors = {}
    for path in glob.glob(os.path.join(folder, "model*.safetensors")):
        with safetensors.safe_open(path, framework="pt") as file:
            for name in file.keys():
                tensors[name] = file.get_tensor(name)
    return tensors


def same_bytes(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and bool(
        (a.contiguous().view(torch.uint8) == b.contiguous().view(torch.uint8)).all())


def rotary(model):
    module = model.model.rotary_emb
    return module.inv_freq * 1.0, float(module.attention_scaling)


def greedy(model, tokens):
    tokens = tokens.clone()
    for _ in range(NEW_TOKENS):
        tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], dim=1)
    return tokens


def check(hone, folder, dtype):
    """The largest difference of logits, whether greedy text is the same, how many tensors are."""
    with tempfile.TemporaryDirectory() as directory:
        out = os.path.join(directory, "export")
        subprocess.run([hone, "export", "model", "--from", folder, "--out", out, "--dtype", dtype],
                       check=True, capture_output=True)
        with open(os.path.join(out, "config.json"), encoding="utf-8") as file:
            assert json.load(file)["torch_dtype"] == dtype
        before, after = read_tensors(folder), read_tensors(out)
        assert sorted(before) == sorted(after), set(before) ^ set(after)
        wanted = {name: value.to(getattr(torch, dtype)) for name, value in before.items()}
        assert all(same_bytes(wanted[name], after[name]) for name in wanted), "a tensor changed"
        n_same = sum(same_bytes(before[name], after[name]) for name in before)

        source, export = load(folder), load(out)
        assert type(source) is type(export)
        source.load_state_dict({name: value.float() for name, value in wanted.items()},
                               strict=False)
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b))
                   for a, b in zip(rotary(source), rotary(export))), "the positions changed"
        torch.manual_seed(1)
        tokens = torch.randint(0, source.config.vocab_size, (2, LONGEST))
        with torch.no_grad():
            difference = float((source(tokens).logits - export(tokens).logits).abs().max())
            same = torch.equal(greedy(source, tokens[:, :5]), greedy(export, tokens[:, :5]))
        return difference, same, n_same, len(before)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    hone, folders = sys.argv[1], sys.argv[2:]
    if not folders:
        root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden")
        folders = sorted(os.path.dirname(path) for path in glob.glob(root + "/*/config.json"))
    transformers.logging.set_verbosity_error()
    bad = False
    for folder in folders:
        for dtype in ("float32", "bfloat16"):
            difference, same, n_same, n = check(hone, folder, dtype)
            bad |= difference > 1e-5 or not same
            print(f"{os.path.basename(folder.rstrip('/')):18} {dtype:8} logits differ by "
                  f"{difference:.1e}, greedy {'the same' if same else 'DIFFERS'}, "
                  f"{n_same} of {n} tensors byte-identical to the source")
    sys.exit(bad)


if __name__ == "__main__":
    main()
