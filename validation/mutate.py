#!/usr/bin/env python3
"""Breaks one stored coefficient at a time, each just enough to move a logarithm by 16 u max(1, |log|), or
a concentration by 16 u (1 + condition number) of it, somewhere in its region, and asks whether
`halfulp validate` notices.

    validation/mutate.py PROGRAM [--module bessel|vmf] [--count 100] [--seed 1] [--jobs 2]

PROGRAM is a built `halfulp`. A copy of it is changed where the coefficient stands, everywhere it does,
and run; nothing is built and the sources stay as they are. Chosen are coefficients that this machine's
instruction set uses: the first line names it. Exit code 0 if at least 95 % were caught.
"""
import argparse
import concurrent.futures
import json
import math
import pathlib
import random
import re
import struct
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
CELLS = ROOT / "lib/detail/bessel_cells.hpp"
TABLES = ROOT / "include/halfulp/kernel/bessel_tables.hpp"
VMF = ROOT / "include/halfulp/kernel/vmf_tables.hpp"
U = 2.0**-53
# Instruction sets that have the last terms of the series as bessel_fast_tail and bessel_tail; others have no
# use for these.
TAIL_TARGETS = ("AVX3", "AVX10")


def log_size(v, x, second=False):
    """max(1, |log I|) or, for the second kind, max(1, |log K|) from the leading terms."""
    w = math.hypot(v, x)
    lead = w - v * math.asinh(v / x)
    return max(1.0, abs(lead + 0.5 * math.log(2 * w / math.pi) if second
                        else lead - 0.5 * math.log(2 * math.pi * w)))


class Cells:
    def __init__(self):
        text = CELLS.read_text()
        self.fine_rows, self.halvings = map(int, re.search(
            r"bessel_cell_fine_rows = (\d+), bessel_cell_halvings = (\d+)", text).groups())
        self.cells = []  # table, number in it, its coefficients by rows
        for name, body in re.findall(r"double (bessel_\w*cells_[ik])\[\] = \{\n(.*?)\};", text, re.S):
            lines = [[number.strip() for number in line.split(",")[:-1]] for line in body.strip().split("\n")]
            number = at = 0
            while at < len(lines):
                rows, bound = int(lines[at][0]), float.fromhex(lines[at][1])
                if bound < U:  # else the cell is not used
                    self.cells.append((name, number, [line[1:] for line in lines[at + 1:at + 1 + rows]]))
                at += 1 + rows + ("fast" not in name)  # the last line of the others: what rounding left
                number += 1

    def corners(self, name, number):
        """v, x and w at the corners; of w the least, where a change of w S moves S most."""
        second = name.endswith("k")
        columns, fine = 6, 0
        if second:
            columns, fine = self.halvings + 6, self.fine_rows * (self.halvings + 6)
        if second and number >= fine:
            row, column = divmod(number - fine, 6)
            row += self.fine_rows
        else:
            row, column = divmod(number, columns)
            column -= self.halvings if second else 0
        low, high = column / 6, (column + 1) / 6
        if column < 0 or (second and number < fine and column == 0):
            low = 0 if column == -self.halvings else 2.0**(column - 1) / 6
            high = 2.0**column / 6
        w = 0.25 * 2**(row / 3)
        for share in (low, high):
            share = min(max(share, 1e-6), 1 - 1e-12)
            other = math.sqrt(1 - share * share)
            yield (other * w, share * w, w) if second else (share * w, other * w, w)

    def mutant(self, rng):
        """On the cell both powers are at most 1, and 1 at a corner."""
        name, number, rows = rng.choice(self.cells)
        row = rng.randrange(len(rows))
        column = rng.randrange(len(rows[row]))
        delta = min(16 * U * log_size(v, x, name.endswith("k")) * w for v, x, w in self.corners(name, number))
        old = float.fromhex(rows[row][column])
        return old, old + delta * rng.choice((-1, 1)), f"{name} cell {number}, a^{len(rows) - 1 - row} b^{len(rows[row]) - 1 - column}"


def series_mutant(rng):
    """A coefficient of s_k that batches use or, where these have the tail instead, ratios and derivatives:
    W^k is largest at w = 40, T^j at T = 1."""
    numbers = re.findall(r"\{(-?0x[0-9a-fp.+-]+), ", TABLES.read_text())
    k = rng.randrange(1, 13)
    j = rng.randrange(k + 1)
    old = float.fromhex(numbers[k * (k + 1) // 2 - 1 + j])
    size = log_size(39.9, 2.8) if j > 0 else log_size(0.1, 40)
    return old, old + 16 * U * size * 40.0**k * rng.choice((-1, 1)), f"s_{k} T^{j}"


def tiny_mutant(rng):
    """A coefficient for w < 1/4. Each power is 1 in size at x = 1/4, v = 0, but of log(Gamma(1 + v))/v:
    that counts times v, and the series of log I times q = (x/2)^2."""
    text = CELLS.read_text()
    numbers = re.search(r"bessel_tiny\[\] = \{\n(.*?)\};", text, re.S).group(1)
    lines = [[number.strip() for number in line.split(",")[:-1]] for line in numbers.strip().split("\n")]
    cells = []
    while lines:
        rows = int(lines[0][0])
        cells.append([line[1:] for line in lines[1:1 + rows]])
        lines = lines[1 + rows:]
    k0 = 1.5415  # K_0(1/4) = A + (1 + B) log 8
    delta = (16 * U / 0.24, 16 * U * 64, 16 * U * k0, 16 * U * k0 / math.log(8))
    cell = rng.randrange(len(cells))
    i = rng.randrange(len(cells[cell]))
    j = rng.randrange(len(cells[cell][i]))
    old = float.fromhex(cells[cell][i][j])
    return (old, old + delta[cell] * rng.choice((-1, 1)),
            f"bessel_tiny cell {cell}, a^{len(cells[cell]) - 1 - i} b^{len(cells[cell][i]) - 1 - j}")


def tail_mutant(rng):
    """A single of the last terms of the series in batches: a power of a = 16 t - column - 1/2 times one of 1/w,
    and all of them times the power of 1/w that they stand over: largest at w = 40.3 and the column's ends."""
    text = CELLS.read_text()
    name, power = rng.choice((("bessel_fast_tail", 7), ("bessel_tail", 9)))
    body = re.search(name + r"\[2\].*?\{\n(.*?)\n\};", text, re.S).group(1)
    rows = re.findall(r"\{(-?0x[^{}]*)\}", body)
    lengths = [int(n) for n in re.search(name + r"_length\[\] = \{(.*?)\}", text).group(1).split(",")]
    powers = [(len(lengths) - 1 - i, j) for i, n in enumerate(lengths) for j in reversed(range(n))]
    row = rng.randrange(len(rows))
    column = rng.randrange(16)
    old = float.fromhex(rows[row].split(",")[column].strip().rstrip("f"))
    ends = (max(column / 16, 1e-6), min((column + 1) / 16, 1 - 1e-12))
    second = row >= len(rows) // 2
    size = min(log_size(40.3 * t, 40.3 * math.sqrt(1 - t * t), second) for t in ends)
    of_a, of_w = powers[row % len(powers)]
    delta = 16 * U * size * 2**of_a * 40.3**(power + of_w)
    return old, old + delta * rng.choice((-1, 1)), f"{name} row {row}, column {column}"


class VmfCells:
    """Of kappa = R/(1 - R^2) (p - 1)(1 + W G/2): G/2 by polynomials in the share of T in its range and in W."""

    def __init__(self):
        text = VMF.read_text()

        def numbers(name):
            return re.search(name + r"\(int k\) \{\n.*?\{(.*?)\}", text).group(1)

        def ends(name):
            return [float.fromhex(number) for number in numbers(name).split(",") if number.strip()]

        self.rows, self.columns = ends("vmf_cell_row"), ends("vmf_cell_column")
        body = re.search(r"vmf_cell\(int row, int column\) \{\n.*?\{\n(.*?)\};", text, re.S).group(1)
        lines = [[number.strip() for number in line.split(",")[:-1]] for line in body.strip().split("\n")]
        self.cells = []
        while lines:
            powers = int(lines[0][0])
            self.cells.append([line[1:] for line in lines[1:1 + powers]])
            lines = lines[1 + powers:]

    def value(self, cell, a, b):
        total = 0.0
        for row in cell:
            p = 0.0
            for number in row:
                p = p * b + float.fromhex(number)
            total = total * a + p
        return total

    def mutant(self, rng):
        number = rng.randrange(len(self.cells))
        row, column = divmod(number, len(self.columns) - 1)
        cell = self.cells[number]
        i = rng.randrange(len(cell))
        j = rng.randrange(len(cell[i]))
        deltas = []
        for a, b in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
            w = self.rows[row if b > 0 else row + 1]
            t = 0.5 * w + self.columns[column + (a > 0)] * (1 - 0.5 * w)
            half = self.value(cell, a, b)
            deltas.append(16 * U * (1 + 1 / (2 * t * half)) * (1 + w * half) / w)
        old = float.fromhex(cell[i][j])
        return (old, old + min(deltas) * rng.choice((-1, 1)),
                f"vmf cell {number}, a^{len(cell) - 1 - i} b^{len(cell[i]) - 1 - j}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=pathlib.Path)
    parser.add_argument("--module", choices=("bessel", "vmf"), default="bessel")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    cells = Cells() if args.module == "bessel" else VmfCells()
    program = args.program.read_bytes()
    info = subprocess.run([args.program.resolve(), "info", "--json"], stdout=subprocess.PIPE, check=True).stdout
    target = json.loads(info)["result"]["instruction_sets"][0]
    tail = args.module == "bessel" and target.startswith(TAIL_TARGETS)
    left_out = "" if tail or args.module != "bessel" else ", which does without bessel_fast_tail and bessel_tail"
    print(f"{args.module}, seed {args.seed}, instruction set {target}{left_out}", flush=True)
    starting = threading.Lock()

    def chosen():
        """Coefficients whose bytes stand for nothing else: short ones such as 1/8 may."""
        while True:
            kind = rng.random()
            single = tail and kind >= 0.9
            old, new, what = (cells.mutant(rng) if args.module == "vmf" or kind < 0.65
                              else tiny_mutant(rng) if kind < 0.75
                              else tail_mutant(rng) if single else series_mutant(rng))
            pattern, changed = (struct.pack("<f" if single else "<d", number) for number in (old, new))
            alone = program.count(pattern) == 1 if single else not pattern.startswith(b"\0\0\0")
            if changed != pattern and alone and pattern in program:
                return pattern, changed, f"{what}: {old.hex()} -> {new.hex()}"

    def run(mutant):
        old, new, what = mutant
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / "halfulp"
            changed = program.replace(old, new)
            # a process forked while another copy is written would hold that open, and it could not be run
            with starting:
                copy.write_bytes(changed)
                copy.chmod(0o755)
                process = subprocess.Popen([copy, "validate", args.module, "--samples", "1000", "--threads", "1",
                                            "--data", ROOT / "validation"],
                                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            code = process.wait()
        return code, what

    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        caught = failed = 0
        for i, (code, what) in enumerate(pool.map(run, [chosen() for _ in range(args.count)])):
            caught += code == 1
            failed += code not in (0, 1)
            print(f"{i + 1:4d} {'caught' if code == 1 else 'MISSED' if code == 0 else f'FAILED {code}'}  {what}", flush=True)
    print(f"{caught} of {args.count} caught")
    return 2 if failed else 0 if caught >= 0.95 * args.count else 1


sys.exit(main())
