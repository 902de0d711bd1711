#!/usr/bin/env python3
"""Adds to tests/golden/<family>/ what PyTorch and PEFT compute with bfloat16 weights and adapters.

For developers alone, after make_golden.py: the models and batches are its own. Needs torch,
transformers and peft. Writes precision.safetensors and adapter/.

    tools/make_golden_precision.py [GOLDEN_DIR]
"""
import contextlib
import copy
import os
import shutil
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from make_golden import FAMILIES, loss_of, segment_logits

TARGETS = {
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    "qwen2": ["q_proj", "v_proj"],
    "qwen3": ["k_proj", "o_proj", "up_proj"],
    "mistral": ["gate_proj", "down_proj"],
}


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype=torch.float32, attn_implementation="eager").eval()


class RoundedProduct(torch.autograd.Function):
    """A product of rounded factors, summed in float32; so are those of its gradients."""

    @staticmethod
    def forward(ctx, x, weight):
        x = x.bfloat16().float()
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx, d_out):
        x, weight = ctx.saved_tensors
        d_rounded = d_out.bfloat16().float()
        return d_rounded @ weight, d_rounded.flatten(0, -2).T @ x.flatten(0, -2)


class Rounded(torch.autograd.Function):
    """bfloat16 forward; the gradient as it is."""

    @staticmethod
    def forward(ctx, x):
        return x.bfloat16().float()

    @staticmethod
    def backward(ctx, d_out):
        return d_out


@contextlib.contextmanager
def rounded_keys(model):
    """Attention sees keys and values of bfloat16."""
    code = sys.modules[type(model).__module__]
    plain = code.eager_attention_forward
    code.eager_attention_forward = lambda module, query, key, value, *others, **named: plain(
        module, query, Rounded.apply(key), Rounded.apply(value), *others, **named)
    yield
    code.eager_attention_forward = plain


def rounded(folder):
    """Weights, and what is multiplied with them, are bfloat16; all else is float32."""
    model = load(folder)
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.forward = lambda x, m=module: (
                RoundedProduct.apply(x, m.weight) + (0 if m.bias is None else m.bias))
    return model


def usual(folder):
    """Matrices of about the deviation that a model starts with."""
    model = load(folder)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data *= 0.1
    return model


def write_family(folder, targets):
    golden = load_file(os.path.join(folder, "golden.safetensors"))
    tokens, rows, wanted = (golden[k].long() for k in ("tokens", "target_rows", "targets"))
    out = {}
    with torch.no_grad():   # at weights of the usual size: a wide model magnifies rounding
        half = torch.cat(segment_logits(usual(folder).bfloat16(), tokens))[rows]
        out["bf16.logits"] = half.float()
    model = rounded(folder)
    with rounded_keys(model):
        loss, out["rounded.logits"], out["rounded.logprobs"], _ = loss_of(
            model, tokens, rows, wanted)
    loss.backward()
    for name, parameter in model.named_parameters():
        out["rounded.grad." + name] = parameter.grad

    torch.manual_seed(7)
    adapted = peft.get_peft_model(load(folder), peft.LoraConfig(
        r=4, lora_alpha=6, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"))
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0.0, 0.2)
    adapted.peft_config["default"].base_model_name_or_path = os.path.basename(folder)
    adapted.save_pretrained(os.path.join(folder, "adapter"))
    os.remove(os.path.join(folder, "adapter", "README.md"))
    loss, out["lora.logits"], out["lora.logprobs"], _ = loss_of(adapted, tokens, rows, wanted)
    loss.backward()
    for name, parameter in adapted.named_parameters():
        if parameter.grad is not None:
            out["lora.grad." + name.replace(".default", "")] = parameter.grad
    merged = copy.deepcopy(adapted).merge_and_unload()
    out["lora.merged"] = dict(merged.named_parameters())[
        "model.layers.0." + ("self_attn." if targets[0][0] in "qkvo" else "mlp.")
        + targets[0] + ".weight"]
    save_file({k: v.detach().clone().contiguous() for k, v in out.items()},
              os.path.join(folder, "precision.safetensors"))
    for root, _, files in os.walk(folder):
        for file in files:
            os.chmod(os.path.join(root, file), 0o644)


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    golden = sys.argv[1] if len(sys.argv) > 1 else os.path.join(root, "tests", "golden")
    for family in FAMILIES:
        shutil.rmtree(os.path.join(golden, family, "adapter"), ignore_errors=True)
        write_family(os.path.join(golden, family), TARGETS[family])


if __name__ == "__main__":
    main()
