#!/usr/bin/env python3
"""Writes the shapes of bench_model as GGUF files with random weights, for llama.cpp's benches.

    write_gguf.py DIR [tiny|0.5b ...]      DIR/<shape>-{f32,f16,bf16}.gguf; present files stay

Needs gguf and numpy. No tokenizer inside: llama-bench and llama-batched-bench feed random ids.
"""
import os
import sys

import gguf
import numpy as np

SHAPES = {
    "tiny": dict(C=256, L=6, H=8, K=4, D=32, FFN=1024, V=1024, base=1e4),
    "0.5b": dict(C=896, L=24, H=14, K=2, D=64, FFN=4864, V=151936, base=1e6),
}
TYPES = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
}


def tensors(s):
    """Name, shape and start of each weight: None is random. The head is tied: it has no tensor."""
    q, kv = s["H"] * s["D"], s["K"] * s["D"]
    yield "token_embd.weight", (s["V"], s["C"]), None
    yield "output_norm.weight", (s["C"],), 1
    for i in range(s["L"]):
        b = f"blk.{i}."
        yield b + "attn_norm.weight", (s["C"],), 1
        yield b + "ffn_norm.weight", (s["C"],), 1
        for name, n in ("attn_q", q), ("attn_k", kv), ("attn_v", kv):
            yield b + name + ".weight", (n, s["C"]), None
            yield b + name + ".bias", (n,), 0
        yield b + "attn_output.weight", (s["C"], q), None
        yield b + "ffn_gate.weight", (s["FFN"], s["C"]), None
        yield b + "ffn_up.weight", (s["FFN"], s["C"]), None
        yield b + "ffn_down.weight", (s["C"], s["FFN"]), None


def write(path, s, type_name):
    matrix_type, file_type = TYPES[type_name]
    random = np.random.default_rng(1)
    out = gguf.GGUFWriter(path + ".tmp", "qwen2")
    out.add_file_type(file_type)
    out.add_context_length(32768)
    out.add_embedding_length(s["C"])
    out.add_block_count(s["L"])
    out.add_feed_forward_length(s["FFN"])
    out.add_head_count(s["H"])
    out.add_head_count_kv(s["K"])
    out.add_rope_freq_base(s["base"])
    out.add_layer_norm_rms_eps(1e-6)
    out.add_vocab_size(s["V"])
    out.add_tokenizer_model("no_vocab")
    for name, shape, start in tensors(s):
        if start is None:
            data = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            data = gguf.quants.quantize(data, matrix_type)
            out.add_tensor(name, data, raw_dtype=matrix_type)
        else:
            out.add_tensor(name, np.full(shape, start, dtype=np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    os.rename(path + ".tmp", path)


def main():
    directory = sys.argv[1]
    os.makedirs(directory, exist_ok=True)
    for shape in sys.argv[2:] or SHAPES:
        for type_name in TYPES:
            path = os.path.join(directory, f"{shape}-{type_name}.gguf")
            if not os.path.exists(path):
                write(path, SHAPES[shape], type_name)
                print(path)


if __name__ == "__main__":
    main()
