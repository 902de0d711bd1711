#!/usr/bin/env python3
"""Trains adapters in a tiny run, and compares what hone exports: PEFT's base plus adapter must give
the logits of the merged model. For developers; needs torch, transformers, peft.

    tools/check_adapter.py HONE RECIPE     # RECIPE: configs/debug/tiny.yaml, in its working directory
"""
import subprocess
import sys
import tempfile

import peft
import torch
import transformers


def main():
    hone, recipe = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        def call(*arguments):
            subprocess.run([hone, *arguments], check=True, stderr=subprocess.DEVNULL)

        run = folder + "/run"
        call("run", recipe, "--run", run, "--set", "zero:lora.r=4", "--set",
             "zero:optimizer.learning_rate=0.05")
        call("export", "model", "--run", run, "--stage", "zero", "--out", folder + "/merged")
        call("export", "model", "--run", run, "--stage", "base", "--out", folder + "/base")
        call("export", "adapter", "--run", run, "--stage", "zero", "--out", folder + "/adapter")
        load = transformers.AutoModelForCausalLM.from_pretrained
        base, merged = load(folder + "/base"), load(folder + "/merged")
        tokens = torch.randint(0, base.config.vocab_size, (2, 40))
        with torch.no_grad():
            plain = base(tokens).logits
            both = peft.PeftModel.from_pretrained(base, folder + "/adapter")(tokens).logits
            wanted = merged(tokens).logits
    print(f"the adapter moves logits by {(wanted - plain).abs().max():.3g}; "
          f"base + adapter and merged differ by {(wanted - both).abs().max():.3g}")


if __name__ == "__main__":
    main()
