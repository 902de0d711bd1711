#!/usr/bin/env python3
"""The PyTorch peer of bench_peers: the same shapes, written as well as PyTorch allows.

One file, one module: fused q/k/v and gate/up projections, scaled_dot_product_attention, a KV cache
that is allocated once, sampling with log-probabilities, AdamW fused. It answers rows on stdin, one
a line, with one JSON line each, so that a driver can alternate it with other programs:

    torch_peer.py [--shape tiny|0.5b] [--dtype f32|bf16|autocast] [--threads N] [--compile]
                  [--processor-time]
    rows: train B T | decode B | prefill T | grpo | forward N C M | backward_input N C M |
          backward_weight N C M

bf16: weights, gradients and moments too. autocast: a float32 model that trains under autocast to
bfloat16 and decodes with a bfloat16 copy of itself.
"""
import argparse
import contextlib
import copy
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

SHAPES = {
    "tiny": dict(C=256, L=6, H=8, K=4, D=32, FFN=1024, V=1024, base=1e4),
    "0.5b": dict(C=896, L=24, H=14, K=2, D=64, FFN=4864, V=151936, base=1e6),
}
MOST_POSITIONS = 2048
now = time.perf_counter


class Transformer(torch.nn.Module):
    def __init__(self, C, L, H, K, D, FFN, V, base):
        super().__init__()
        self.C, self.L, self.H, self.K, self.D, self.FFN, self.V = C, L, H, K, D, FFN, V
        new = lambda *s: torch.nn.Parameter(torch.randn(*s) * 0.02)
        one = lambda n: torch.nn.Parameter(torch.ones(n))
        self.embed = new(V, C)
        self.norm = one(C)
        self.norm1 = torch.nn.ParameterList([one(C) for _ in range(L)])
        self.norm2 = torch.nn.ParameterList([one(C) for _ in range(L)])
        self.qkv = torch.nn.ParameterList([new((H + 2 * K) * D, C) for _ in range(L)])
        self.qkv_bias = torch.nn.ParameterList(
            [torch.nn.Parameter(torch.zeros((H + 2 * K) * D)) for _ in range(L)])
        self.out = torch.nn.ParameterList([new(C, H * D) for _ in range(L)])
        self.gate_up = torch.nn.ParameterList([new(2 * FFN, C) for _ in range(L)])
        self.down = torch.nn.ParameterList([new(C, FFN) for _ in range(L)])
        angle = torch.outer(torch.arange(MOST_POSITIONS).float(),
                            base ** (-torch.arange(0, D, 2).float() / D))
        angle = torch.cat([angle, angle], -1)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def rotate(self, x, cos, sin):
        half = self.D // 2
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    def project(self, i, x, cos, sin):
        """q [B,H,T,D], k and v [B,K,T,D]."""
        B, T, _ = x.shape
        h = F.rms_norm(x, (self.C,), self.norm1[i], 1e-6)
        qkv = F.linear(h, self.qkv[i], self.qkv_bias[i]).view(B, T, self.H + 2 * self.K, self.D)
        q, k, v = qkv.transpose(1, 2).split([self.H, self.K, self.K], 1)
        return self.rotate(q, cos, sin), self.rotate(k, cos, sin), v

    def finish(self, i, x, attended):
        B, T, _ = x.shape
        x = x + F.linear(attended.transpose(1, 2).reshape(B, T, self.H * self.D), self.out[i])
        h = F.rms_norm(x, (self.C,), self.norm2[i], 1e-6)
        gate, up = F.linear(h, self.gate_up[i]).chunk(2, -1)
        return x + F.linear(F.silu(gate) * up, self.down[i])

    def forward(self, tokens):
        """Hidden states of whole sequences."""
        x = F.embedding(tokens, self.embed)
        T = tokens.shape[1]
        cos, sin = self.cos[:T], self.sin[:T]
        for i in range(self.L):
            q, k, v = self.project(i, x, cos, sin)
            k, v = (a.repeat_interleave(self.H // self.K, 1) for a in (k, v))
            x = self.finish(i, x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return F.rms_norm(x, (self.C,), self.norm, 1e-6)

    def logprobs(self, tokens, first):
        """Of tokens[:, first:], from the head on those rows alone."""
        hidden = self(tokens)[:, first - 1:-1]
        logits = F.linear(hidden, self.embed)
        return -F.cross_entropy(logits.flatten(0, 1), tokens[:, first:].flatten(),
                                reduction="none").view(tokens.shape[0], -1)

    # ---- Decoding: cache [L, 2, B, K, T, D].
    def prefill(self, tokens, cache):
        x = F.embedding(tokens, self.embed)
        T = tokens.shape[1]
        for i in range(self.L):
            q, k, v = self.project(i, x, self.cos[:T], self.sin[:T])
            if cache is not None:
                cache[i, 0, :, :, :T] = k
                cache[i, 1, :, :, :T] = v
            k, v = (a.repeat_interleave(self.H // self.K, 1) for a in (k, v))
            x = self.finish(i, x, F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return F.linear(F.rms_norm(x[:, -1], (self.C,), self.norm, 1e-6), self.embed)

    def step(self, token, position, cache):
        """token [B] at `position` -> the next token and its log-probability, temperature 1."""
        B = token.shape[0]
        x = F.embedding(token, self.embed)[:, None]
        cos, sin = self.cos[position:position + 1], self.sin[position:position + 1]
        for i in range(self.L):
            q, k, v = self.project(i, x, cos, sin)
            cache[i, 0, :, :, position:position + 1] = k
            cache[i, 1, :, :, position:position + 1] = v
            # The queries of one key/value head are rows of one small product: no copies of k, v.
            q = q.view(B, self.K, self.H // self.K, self.D)
            keys, values = cache[i, 0, :, :, :position + 1], cache[i, 1, :, :, :position + 1]
            a = F.scaled_dot_product_attention(q, keys, values)
            x = self.finish(i, x, a.view(B, self.H, 1, self.D))
        return sample(F.linear(F.rms_norm(x[:, 0], (self.C,), self.norm, 1e-6), self.embed))


def sample(logits):
    logprobs = torch.log_softmax(logits.float(), -1)
    token = torch.multinomial(logprobs.exp(), 1)
    return token[:, 0], logprobs.gather(1, token)[:, 0]


class Peer:
    def __init__(self, shape, dtype, compiled):
        torch.manual_seed(1)
        self.shape = SHAPES[shape]
        mixed = dtype == "autocast"
        self.dtype = torch.float32 if dtype == "f32" else torch.bfloat16
        self.model = Transformer(**self.shape).to(torch.float32 if mixed else self.dtype)
        self.sampler = copy.deepcopy(self.model).to(self.dtype) if mixed else self.model
        self.autocast = (torch.autocast("cpu", self.dtype) if mixed
                         else contextlib.nullcontext())
        wrap = (lambda f, **k: torch.compile(f, **k)) if compiled else (lambda f, **k: f)
        self.train_logprobs = wrap(self.model.logprobs, dynamic=False)
        self.decode_step = wrap(self.sampler.step, dynamic=True)
        self.optimizer = None

    def tokens(self, *shape):
        return torch.randint(0, self.shape["V"], shape)

    def cache(self, B, T):
        s = self.shape
        return torch.zeros(s["L"], 2, B, s["K"], T, s["D"], dtype=self.dtype)

    def update(self, loss):
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-6, fused=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)

    # ---- Products of x [N,C] and w [M,C], GFLOP/s; outputs are allocated once.
    def product(self, n_multiplied, *ways):
        """The best of the ways to write it, each for a fifth of a second."""
        medians = []
        for way in ways:
            seconds, begin = [], now()
            while len(seconds) < 3 or now() - begin < 0.2:
                start = now()
                way()
                seconds.append(now() - start)
            medians.append(statistics.median(seconds))
        return 2e-9 * n_multiplied / min(medians)

    @torch.inference_mode()
    def forward(self, N, C, M):
        x, w, out = torch.randn(N, C), torch.randn(M, C), torch.empty(N, M)
        return self.product(N * C * M, lambda: F.linear(x, w),
                            lambda: torch.mm(x, w.t(), out=out))

    @torch.inference_mode()
    def backward_input(self, N, C, M):
        d_out, w, d_in = torch.randn(N, M), torch.randn(M, C), torch.empty(N, C)
        return self.product(N * C * M, lambda: torch.mm(d_out, w, out=d_in))

    @torch.inference_mode()
    def backward_weight(self, N, C, M):
        d_out, x, d_w = torch.randn(N, M), torch.randn(N, C), torch.zeros(M, C)
        return self.product(N * C * M, lambda: torch.mm(d_out.t(), x, out=d_w))

    def train(self, B, T):
        tokens = self.tokens(B, T)
        start = now()
        with self.autocast:
            loss = -self.train_logprobs(tokens, 1).mean()
        self.update(loss)
        return B * T / (now() - start)

    @torch.inference_mode()
    def decode(self, B, n_prompt=224, n_new=32):
        """Tokens a second from n_prompt to n_prompt + n_new; the prompts are not timed."""
        cache = self.cache(B, n_prompt + n_new)
        token, _ = sample(self.sampler.prefill(self.tokens(1 if B > 16 else B, n_prompt),
                                             cache[:, :, :1] if B > 16 else cache))
        if B > 16:
            cache[:, :, 1:] = cache[:, :, :1]
            token = token.expand(B).clone()
        start = now()
        for position in range(n_prompt, n_prompt + n_new):
            token, _ = self.decode_step(token, position, cache)
        return B * n_new / (now() - start)

    @torch.inference_mode()
    def prefill(self, T):
        tokens, cache = self.tokens(1, T), self.cache(1, T)
        start = now()
        sample(self.sampler.prefill(tokens, cache))
        return T / (now() - start)

    def grpo(self, n_prompts=8, G=8, n_prompt=64, n_new=128, micro=64):
        """Seconds of one step: generate, old log-probabilities, forward, loss, backward, AdamW."""
        start = now()
        with torch.no_grad():
            for mine, theirs in zip(self.sampler.parameters(), self.model.parameters()):
                if mine is not theirs:
                    mine.copy_(theirs)
        with torch.inference_mode():
            prompts = self.tokens(n_prompts, n_prompt)
            cache = self.cache(n_prompts * G, n_prompt + n_new)
            first = self.cache(n_prompts, n_prompt)
            logits = self.sampler.prefill(prompts, first)
            cache[:, :, :, :, :n_prompt] = first.repeat_interleave(G, 2)
            token, logprob = sample(logits.repeat_interleave(G, 0))
            drawn = [token]
            for position in range(n_prompt, n_prompt + n_new - 1):
                token, logprob = self.decode_step(token, position, cache)
                drawn.append(token)
        tokens = torch.cat([prompts.repeat_interleave(G, 0), torch.stack(drawn, 1)], 1).clone()
        generated = now()
        parts = range(0, n_prompts * G, micro)
        with torch.no_grad(), self.autocast:
            old = torch.cat([self.train_logprobs(tokens[i:i + micro], n_prompt) for i in parts])
        judged = now()
        reward = torch.randint(0, 2, (n_prompts, G)).float()
        advantage = ((reward - reward.mean(1, keepdim=True)) /
                     (reward.std(1, keepdim=True) + 1e-4)).view(-1, 1)
        for n, i in enumerate(parts):
            with self.autocast:
                logprobs = self.train_logprobs(tokens[i:i + micro], n_prompt)
            ratio = (logprobs - old[i:i + micro]).exp()
            a = advantage[i:i + micro]
            loss = -torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a).sum() / old.numel()
            if n + 1 < len(parts):
                loss.backward()
            else:
                self.update(loss)
        end = now()
        return dict(value=end - start, generate=generated - start, old=judged - generated,
                    train=end - judged)


def run(peer, words):
    name, arguments = words[0], [int(w) for w in words[1:]]
    result = getattr(peer, name)(*arguments)
    return result if isinstance(result, dict) else {"value": result}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--dtype", choices=["f32", "bf16", "autocast"], default="f32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--repeat", type=int, default=1, help="of each row, after one to warm up")
    parser.add_argument("rows", nargs="*", help="e.g. 'train 4 256'; none: read from stdin")
    parser.add_argument("--processor-time", action="store_true")
    args = parser.parse_args()
    global now
    if args.processor_time:
        now = time.process_time
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    peer = Peer(args.shape, args.dtype, args.compile)
    warm = set()
    for line in args.rows or iter(sys.stdin.readline, ""):
        words = line.split()
        if line not in warm:
            for _ in range(2 if args.compile else 1):
                run(peer, words)
            warm.add(line)
        results = [run(peer, words) for _ in range(args.repeat)]
        answer = {"row": line.strip(),
                  **{k: statistics.median(r[k] for r in results) for k in results[0]}}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
