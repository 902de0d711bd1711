#!/usr/bin/env python3
"""Writes model/nfc_decompositions.c and nfc_compositions.c as the tokenizers library normalizes.

That library keeps to an old version of Unicode: marks that are newer have no class in it. Ids must
be the same, so each entry of Python's tables is tried on it. For developers alone.

    tools/make_nfc.py [OUT_DIR]
"""
import os
import sys
import unicodedata

import tokenizers

NFC = tokenizers.normalizers.NFC().normalize_str
NFD = tokenizers.normalizers.NFD().normalize_str
HANGUL = range(0xAC00, 0xAC00 + 11172)


def canonical():
    for code in range(0x110000):
        parts = unicodedata.decomposition(chr(code))
        is_canonical = parts and not parts.startswith("<") and code not in HANGUL
        if is_canonical and NFD(chr(code)) != chr(code):
            first, second = ([int(part, 16) for part in parts.split()] + [0])[:2]
            yield code, first, second


def compositions():
    """The pairs that form C joins: all but the exclusions, which normalizing shows."""
    for code, first, second in canonical():
        if second and NFC(chr(first) + chr(second)) == chr(code):
            yield first, second, code


def combining_class(code):
    """0 unless the library, too, puts the mark behind one of a lower class."""
    known = unicodedata.combining(chr(code))
    low, high = ("\u0334", chr(code)) if known > 1 else (chr(code), "\u0301")
    return known if known and NFD("x" + high + low) == "x" + NFD(low) + NFD(high) else 0


def classes():
    ranges = []
    for code in range(0x110000):
        combining = combining_class(code)
        if ranges and combining and ranges[-1][1:] == (code - 1, combining):
            ranges[-1] = (ranges[-1][0], code, combining)
        elif combining:
            ranges.append((code, code, combining))
    return ranges


def write_table(out, struct, name, rows):
    rows = list(rows)
    out.write(f"\nconst struct {struct} {name}[] = {{\n")
    line = "   "
    for row in rows:
        item = " {" + ",".join(map(str, row)) + "},"
        if len(line) + len(item) > 100:
            out.write(line + "\n")
            line = "   "
        line += item
    out.write(f"{line}\n}};\nconst size_t n_{name} = sizeof({name}) / sizeof({name}[0]);\n")


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "..", "model")
    head = (f"/* As tokenizers {tokenizers.__version__} has it. Written by tools/make_nfc.py. */\n"
            '#include "model/tokenizer_internal.h"\n')
    with open(os.path.join(root, "nfc_decompositions.c"), "w", encoding="ascii") as out:
        out.write(head)
        write_table(out, "nfc_decomposition", "nfc_decompositions", canonical())
    with open(os.path.join(root, "nfc_compositions.c"), "w", encoding="ascii") as out:
        out.write(head)
        write_table(out, "nfc_composition", "nfc_compositions", sorted(compositions()))
        write_table(out, "nfc_class", "nfc_classes", classes())


if __name__ == "__main__":
    main()
