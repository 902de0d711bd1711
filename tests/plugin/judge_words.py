#!/usr/bin/env python3
"""A whole verifier as an executable: right when every word of the reference is in the answer."""
import json
import sys


def answer(reply):
    # One line for one line, and nothing else on stdout: print() for people goes to stderr.
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


def judge(request, miss):
    wanted = request["reference"].lower().split()
    if not wanted:  # not the completion's fault: the sample is masked, never wrong
        return {"error": "the reference is empty"}
    text = request["completion"].rpartition("</think>")[2].lower()
    missing = [word for word in wanted if word not in text]
    if missing:
        return {"score": miss, "outcome": "wrong", "detail": "missing: " + " ".join(missing)}
    return {"score": 1, "outcome": "right", "detail": "all %d words" % len(wanted)}


miss = 0.0
for line in sys.stdin:
    request = json.loads(line)
    if "hello" in request:  # the first line; its answer may take 10 s: load what you need here
        try:
            miss = float(request["options"].get("miss", 0))
        except ValueError:
            answer({"error": "miss must be a number"})
            continue
        answer({"version": "1", "deterministic": True, "help": "Every word is in the answer."})
    else:
        answer(judge(request, miss))
