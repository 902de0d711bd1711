#!/usr/bin/env python3
"""TRL's GRPOTrainer on the tiny shape of bench_model, on the CPU: seconds of a whole step.

    trl_peer.py [--threads N] [--repeat N] [--dtype f32|autocast|bf16] [--as-it-comes]
    one JSON line; needs torch, transformers, trl

The step is that of `bench_model --row grpo`: 8 prompts of 64 tokens, 8 completions of 128 each, one
optimizer step, beta 0, no old log-probabilities beyond what TRL computes by itself. Completions
always have 128 tokens and every reward is the same: the work does not depend on it. Settings are
the fastest for the CPU, in float32, in bfloat16 by autocast of a float32 model, or with a model
that is bfloat16 all through, moments too. --as-it-comes keeps TRL's own: GRPOConfig's default is
bf16 (autocast), recomputed activations, 8 completions at a time.
"""
import argparse
import json
import logging
import os
import random
import statistics
import tempfile
import time
import warnings

os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
warnings.filterwarnings("ignore")

import datasets
import tokenizers
import torch
import transformers
import trl

VOCAB = 1024
TUNED = dict(gradient_checkpointing=False, per_device_train_batch_size=64,
             generation_batch_size=64)
AS_IT_COMES = dict(per_device_train_batch_size=8, gradient_accumulation_steps=8)
now = time.perf_counter


def make_tokenizer():
    words = {f"w{i}": i for i in range(VOCAB - 2)}
    words["<unk>"], words["<eos>"] = VOCAB - 2, VOCAB - 1
    inner = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>",
                                                eos_token="<eos>", pad_token="<eos>")


def make_model():
    config = transformers.Qwen2Config(
        hidden_size=256, num_hidden_layers=6, num_attention_heads=8, num_key_value_heads=4,
        intermediate_size=1024, vocab_size=VOCAB, max_position_embeddings=2048,
        tie_word_embeddings=True, eos_token_id=VOCAB - 1, pad_token_id=VOCAB - 1, bos_token_id=None)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


class Clock(transformers.TrainerCallback):
    def __init__(self):
        self.times = []

    def on_step_end(self, args, state, control, **kwargs):
        self.times.append(now())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--processor-time", action="store_true")
    parser.add_argument("--dtype", choices=["f32", "autocast", "bf16"], default="f32")
    parser.add_argument("--as-it-comes", action="store_true")
    args = parser.parse_args()
    global now
    if args.processor_time:
        now = time.process_time
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    transformers.logging.set_verbosity_error()
    logging.disable(logging.WARNING)
    random.seed(1)
    prompts = [" ".join(f"w{random.randrange(VOCAB - 2)}" for _ in range(64)) for _ in range(64)]
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        config = trl.GRPOConfig(
            output_dir=folder, use_cpu=True, num_generations=8, max_completion_length=128, beta=0.0,
            max_steps=args.repeat + 1, learning_rate=1e-6, logging_steps=1000, save_strategy="no",
            report_to="none", disable_tqdm=True, generation_kwargs={"min_new_tokens": 128},
            **(AS_IT_COMES if args.as_it_comes else {**TUNED, "bf16": args.dtype != "f32"}))
        model = make_model()
        if args.dtype == "bf16":
            model = model.to(torch.bfloat16)
        trainer = trl.GRPOTrainer(
            model=model, reward_funcs=lambda completions, **_: [1.0] * len(completions),
            args=config, train_dataset=datasets.Dataset.from_dict({"prompt": prompts}),
            processing_class=make_tokenizer(), callbacks=[clock])
        trainer.train()
    seconds = [b - a for a, b in zip(clock.times, clock.times[1:])]
    print(json.dumps({"row": "grpo", "value": statistics.median(seconds)}), flush=True)


if __name__ == "__main__":
    main()
