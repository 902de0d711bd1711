#!/usr/bin/env python3
"""Writes model/unicode_classes.c: what \\p{L}, \\p{N}, \\s match in the tokenizers library.

Its pattern engine knows one version of Unicode, and ids must be the same: so every character is
tried on it. For developers alone.

    tools/make_classes.py [OUT_DIR]
"""
import os
import sys

import tokenizers
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split, Whitespace

# In the order of the bits of enum unicode_class.
PATTERNS = [r"\p{L}+", r"\p{N}+", r"\s+", r"\p{M}+", r"[\p{P}\p{S}]+"]
WORD = 1 << len(PATTERNS)
CHUNK = 2048   # so that the surrogates are one chunk
N_CODES = 0x110000


def chunks():
    for start in range(0, N_CODES, CHUNK):
        if not 0xD800 <= start < 0xE000:
            yield start, "".join(map(chr, range(start, start + CHUNK)))


def classify():
    bits = bytearray(N_CODES)
    for start, text in chunks():
        for bit, pattern in enumerate(PATTERNS):
            rest = Split(Regex(pattern), "removed").pre_tokenize_str(text)
            missed = {i for _, (first, end) in rest for i in range(first, end)}
            for i in range(CHUNK):
                if i not in missed:
                    bits[start + i] |= 1 << bit
        for i, char in enumerate(text):   # \w of the engine that finds added tokens
            if Whitespace().pre_tokenize_str("a" + char) == [("a" + char, (0, 2))]:
                bits[start + i] |= WORD
    return bits


def ranges(bits):
    first = 0
    for code in range(1, N_CODES + 1):
        if code == N_CODES or bits[code] != bits[first]:
            if bits[first]:
                yield first, code - 1, bits[first]
            first = code


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "..", "model")
    with open(os.path.join(root, "unicode_classes.c"), "w", encoding="ascii") as out:
        out.write(f"/* As tokenizers {tokenizers.__version__} has it. "
                  "Written by tools/make_classes.py. */\n"
                  '#include "model/tokenizer_internal.h"\n\n'
                  "const struct unicode_range unicode_ranges[] = {\n")
        line = "   "
        for row in ranges(classify()):
            item = " {" + ",".join(map(str, row)) + "},"
            if len(line) + len(item) > 100:
                out.write(line + "\n")
                line = "   "
            line += item
        out.write(f"{line}\n}};\nconst size_t n_unicode_ranges = sizeof(unicode_ranges) / "
                  "sizeof(unicode_ranges[0]);\n")


if __name__ == "__main__":
    main()
