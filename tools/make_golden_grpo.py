#!/usr/bin/env python3
"""Writes tests/golden/grpo/golden.json: two GRPO updates of tests/golden/qwen3 by PyTorch autograd.

For developers alone: neither the build nor the tests run it. The formulas are TRL's
(trl/trainer/grpo_trainer.py): unbiased std, 1e-4 beside it, k3 KL, the loss types by their names;
denominators are those of the whole batch.

    tools/make_golden_grpo.py [GOLDEN_DIR]
"""
import json
import os
import random
import sys

import torch
import transformers

PROMPTS = (3, 5, 2)
GENERATIONS = 4
TEMPERATURE, BETA, EPSILON, EPSILON_HIGH = 0.9, 0.05, 0.1, 0.2
LEARNING_RATE, MAX_GRAD_NORM, MAX_COMPLETION = 3e-3, 0.5, 10
REFERENCE_SCALE = 0.95
WATCHED = ("model.layers.0.self_attn.q_proj.weight", "model.norm.weight")
CASES = [
    dict(loss_type="grpo", scale_rewards="group", importance_sampling_level="token"),
    dict(loss_type="dapo", scale_rewards="group", importance_sampling_level="token"),
    dict(loss_type="dr_grpo", scale_rewards="none", importance_sampling_level="token"),
    dict(loss_type="bnpo", scale_rewards="batch", importance_sampling_level="token"),
    dict(loss_type="grpo", scale_rewards="group", importance_sampling_level="sequence"),
]


def make_groups(vocab_size):
    groups = []
    for g, n_prompt in enumerate(PROMPTS):
        samples = []
        for i in range(GENERATIONS):
            n = random.randint(1, MAX_COMPLETION)
            reward = 0.5 if g == 2 else random.choice([0.0, 0.2, 1.0, 1.2])
            samples.append(dict(tokens=[random.randrange(vocab_size) for _ in range(n)],
                                reward=reward))
        samples[0]["reward"] = 0.5 if g == 2 else 1.2
        samples[1]["reward"] = 0.5 if g == 2 else 0.0
        groups.append(dict(prompt=[random.randrange(vocab_size) for _ in range(n_prompt)],
                           samples=samples))
    return groups


def logprobs_of(model, prompt, completion):
    tokens = torch.tensor(prompt + completion)
    logits = model(input_ids=tokens[None]).logits[0] / TEMPERATURE
    rows = logits[len(prompt) - 1:len(tokens) - 1]
    return torch.log_softmax(rows, -1).gather(1, tokens[len(prompt):, None])[:, 0]


def all_logprobs(model, groups):
    return [logprobs_of(model, g["prompt"], s["tokens"]) for g in groups for s in g["samples"]]


def advantages_of(groups, scale):
    rewards = torch.tensor([[s["reward"] for s in g["samples"]] for g in groups])
    centred = rewards - rewards.mean(1, keepdim=True)
    if scale == "group":
        centred = centred / (rewards.std(1, keepdim=True) + 1e-4)
    elif scale == "batch":
        centred = centred / (rewards.std() + 1e-4)
    return centred.flatten().tolist()


def loss_of(case, new, old, reference, advantages):
    token_losses = []
    for lp, before, ref, advantage in zip(new, old, reference, advantages):
        log_ratio = lp - before
        if case["importance_sampling_level"] == "sequence":
            log_ratio = log_ratio.mean().expand_as(lp)
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - EPSILON, 1 + EPSILON_HIGH)
        kl = (ref - lp).exp() - (ref - lp) - 1
        token_losses.append(-torch.min(ratio * advantage, clipped * advantage) + BETA * kl)
    n, tokens = len(new), sum(len(t) for t in token_losses)
    if case["loss_type"] == "grpo":
        return sum(t.mean() for t in token_losses) / n
    if case["loss_type"] == "dr_grpo":
        return sum(t.sum() for t in token_losses) / (n * MAX_COMPLETION)
    return sum(t.sum() for t in token_losses) / tokens


def run(folder, case, groups):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    reference_model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager")
    with torch.no_grad():
        for weight in reference_model.parameters():
            weight.mul_(REFERENCE_SCALE)
        reference = all_logprobs(reference_model, groups)
        old = all_logprobs(model, groups)
    advantages = advantages_of(groups, case["scale_rewards"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    losses, norms = [], []
    for _ in range(2):
        optimizer.zero_grad()
        loss = loss_of(case, all_logprobs(model, groups), old, reference, advantages)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRAD_NORM).item())
        optimizer.step()
        losses.append(loss.item())
    weights = dict(model.named_parameters())
    return dict(case, advantages=advantages, losses=losses, grad_norms=norms,
                watched={name: weights[name].detach().flatten()[:64].tolist() for name in WATCHED})


def main():
    golden = sys.argv[1] if len(sys.argv) > 1 else "tests/golden"
    random.seed(5)
    torch.manual_seed(5)
    folder = os.path.join(golden, "qwen3")
    groups = make_groups(json.load(open(os.path.join(folder, "config.json")))["vocab_size"])
    result = dict(
        versions=dict(torch=torch.__version__, transformers=transformers.__version__),
        temperature=TEMPERATURE, beta=BETA, epsilon=EPSILON, epsilon_high=EPSILON_HIGH,
        learning_rate=LEARNING_RATE, max_grad_norm=MAX_GRAD_NORM, max_completion=MAX_COMPLETION,
        reference_scale=REFERENCE_SCALE, groups=groups,
        cases=[run(folder, case, groups) for case in CASES])
    os.makedirs(os.path.join(golden, "grpo"), exist_ok=True)
    with open(os.path.join(golden, "grpo", "golden.json"), "w") as out:
        json.dump(result, out, indent=1)
        out.write("\n")


if __name__ == "__main__":
    main()
