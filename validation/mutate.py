#!/usr/bin/env python3
"""Breaks one stored coefficient at a time, each just enough to move a logarithm by 16 u max(1, |log|)
somewhere in its region, rebuilds, and asks whether `halfulp validate bessel` notices.

    validation/mutate.py BUILD [--count 100] [--seed 1]

BUILD is a configured build folder of this tree; the sources are put back after each mutant, also after
an interrupt. Exit code 0 if at least 95 % were caught.
"""
import argparse
import math
import pathlib
import random
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CELLS = ROOT / "lib/detail/bessel_cells.hpp"
TABLES = ROOT / "include/halfulp/kernel/bessel_tables.hpp"
ROWS, FINE_ROWS, HALVINGS = map(int, re.search(
    r"bessel_cell_rows = (\d+), bessel_cell_fine_rows = (\d+), bessel_cell_halvings = (\d+)", CELLS.read_text()).groups())
U = 2.0**-53
HEX = re.compile(r"-?0x[0-9a-f.]+p[+-]\d+")


def log_size(v, x):
    """max(1, |log I|) from the leading terms."""
    w = math.hypot(v, x)
    return max(1.0, abs(w - v * math.asinh(v / x) - 0.5 * math.log(2 * math.pi * w)))


def cell_mutant(rng, text):
    """A coefficient of a cell: on the cell both powers are at most 1, and 1 at a corner."""
    lines = text.split("\n")
    heads = [i for i, line in enumerate(lines) if re.fullmatch(r"    \d+, 0x[^ ]+,", line)]
    while True:
        head = rng.choice(heads)
        if float.fromhex(lines[head].split(",")[1].strip()) < 2.0**-53:  # else the cell is not used
            break
    degree = int(lines[head].split(",")[0])
    index = heads.index(head)
    second = index - 6 * ROWS  # the first kind has six cells a row
    fine = FINE_ROWS * (HALVINGS + 6)
    row = index // 6 if second < 0 else second // (HALVINGS + 6) if second < fine else FINE_ROWS + (second - fine) // 6
    w = 0.25 * 2 ** (row / 3)
    line = head + 1 + rng.randrange(degree + 1)
    numbers = list(HEX.finditer(lines[line]))
    hit = rng.choice(numbers)
    old = float.fromhex(hit.group())
    size = log_size(0.7 * w, 0.7 * w)
    new = old + 16 * U * size * rng.choice((-1, 1))
    lines[line] = lines[line][:hit.start()] + new.hex() + lines[line][hit.end():]
    return "\n".join(lines), f"cell {index}, {hit.group()} -> {new.hex()}"


def series_mutant(rng, text):
    """A coefficient of s_k that batches use: W^k is largest at w = 40, T^j at T = 1."""
    k = rng.randrange(1, 13)
    j = rng.randrange(k + 1)
    lines = text.split("\n")
    start = next(i for i, line in enumerate(lines) if "bessel_log_series(int i)" in line) + 2
    line = start + k * (k + 1) // 2 - 1 + j
    hit = HEX.search(lines[line])
    old = float.fromhex(hit.group())
    size = log_size(39.9, 2.8) if j > 0 else log_size(0.1, 40)
    new = old + 16 * U * size * 40.0**k * rng.choice((-1, 1))
    lines[line] = lines[line][:hit.start()] + new.hex() + lines[line][hit.end():]
    return "\n".join(lines), f"s_{k} T^{j}, {hit.group()} -> {new.hex()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    program = args.build / "solvers" / "halfulp"
    caught = 0
    for i in range(args.count):
        path, mutate = (CELLS, cell_mutant) if rng.random() < 0.7 else (TABLES, series_mutant)
        original = path.read_text()
        mutated, what = mutate(rng, original)
        try:
            path.write_text(mutated)
            subprocess.run(["cmake", "--build", args.build, "--target", "halfulp_program"], check=True,
                           stdout=subprocess.DEVNULL)
            code = subprocess.run([program, "validate", "bessel", "--samples", "1000"],
                                  stdout=subprocess.DEVNULL).returncode
        finally:
            path.write_text(original)
        caught += code == 1
        print(f"{i + 1:4d} {'caught' if code == 1 else 'MISSED'}  {what}", flush=True)
    print(f"{caught} of {args.count} caught")
    return 0 if caught >= 0.95 * args.count else 1


sys.exit(main())
