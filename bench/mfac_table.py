#!/usr/bin/env python3
"""bench/mfac_table.py BENCH_MFAC [--rounds N] [--json OUT.json] [--write PAGE.md]: M-FAC beside its peers;
bench/mfac_table.py --rows ROWS.json... --write PAGE.md [--region NAME]: what bench_mfac_rows has written, beside
the machine, between the marks of figures NAME (rows).

(d, m) = (1e5, 256) and (1e6, 64), gradients of normal numbers in float32, damping 1e-5. All contenders, those
of BENCH_MFAC and of bench/peers/mfac.py, take turns in each of N rounds (5 unless said) on all threads; times
are the least. Errors are relative, 2-norm, of float32 results: of a random x, and of the newest gradient, which
is what an optimiser asks for. The reference is a solution in float64, refined twice with its residual.
Runs in the virtual environment of bench/peers/setup; contenders whose package is missing are left out.
"""
import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from gp_hm import processor
from scipy.linalg import cho_factor, cho_solve

CASES = ((100_000, 256), (1_000_000, 64))
DAMPING = 1e-5


class Contenders:
    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        said = self.ask({"do": "names"})
        self.names, self.about = said["names"], said["about"]

    def ask(self, request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def reference(g, x):
    """H^-1 x for rows x: push-through for rows of G needs no cancellation, others are refined."""
    g, m = g.astype(np.float64), len(g)
    k = g @ g.T
    k[np.diag_indices(m)] += m * DAMPING
    factor = cho_factor(k, lower=True)

    def inverse(v):
        return (v - cho_solve(factor, g @ v) @ g) / DAMPING

    y = inverse(x.astype(np.float64))
    for _ in range(2):
        y += inverse(x - DAMPING * y - (g @ y) @ g / m)
    return y, m * cho_solve(factor, np.eye(m)[-1]) @ g


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bench", nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--rows", type=Path, nargs="+")
    parser.add_argument("--region", default="rows")
    options = parser.parse_args()
    if options.rows:
        write_rows(options.write, options.rows, options.region)
        return
    if not options.bench:
        parser.error("BENCH_MFAC is missing")
    result = {"schema": 1, "damping": DAMPING, "cases": []}
    for d, m in CASES:
        random = np.random.default_rng(d)
        g = random.standard_normal((m, d), dtype=np.float32)
        x = random.standard_normal((32, d), dtype=np.float32)
        y_x, y_g = reference(g, x[0])
        rows = {}
        with tempfile.TemporaryDirectory() as folder:
            files = [str(Path(folder) / "g.npy"), str(Path(folder) / "x.npy")]
            np.save(files[0], g)
            np.save(files[1], x)
            out = str(Path(folder) / "y.npy")
            here = Path(__file__).parent
            sides = [Contenders([options.bench, *files, str(DAMPING)]),
                     Contenders([sys.executable, str(here / "peers/mfac.py"), *files, "--damping", str(DAMPING)])]
            result["about"] = {"processor": processor(),
                               **{key: value for side in sides for key, value in side.about.items()}}
            for turn in range(options.rounds):
                for side in sides:
                    for name in side.names:
                        if name.startswith("curvlinops"):
                            if turn > 0:
                                continue
                        row = rows.setdefault(name, {"name": name})

                        def ask(key, **request):  # noqa: B023
                            answer = side.ask({"contender": name, "out": out, **request})  # noqa: B023
                            if "failed" in answer:
                                row["failed"] = answer["failed"]  # noqa: B023
                                return None
                            row[key] = min(row.get(key, float("inf")), answer["seconds"])  # noqa: B023
                            return np.load(out) if Path(out).exists() else None

                        ask("prepare", do="prepare")
                        one = ask("product", do="product", of="x", rows=[0])
                        last = ask("row", do="product", of="g", rows=[m - 1])
                        if turn == 0 and one is not None:
                            row["error_x"] = float(np.linalg.norm(one[0] - y_x) / np.linalg.norm(y_x))
                            row["error_row"] = float(np.linalg.norm(last[0] - y_g) / np.linalg.norm(y_g))
                        if not name.startswith("curvlinops"):
                            ask("product_32", do="product", of="x", rows=list(range(32)))
                            ask("diagonal", do="diagonal")
                        print(d, m, row, flush=True)
            for side in sides:
                side.close()
        result["cases"].append({"d": d, "m": m, "rows": list(rows.values())})
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if options.write:
        write(options.write, result)


def put(path, name, lines):
    """Lines between the marks of figures `name`."""
    page = path.read_text()
    begin, end = f"<!-- figures:begin {name} -->", "<!-- figures:end -->"
    head, rest = page.split(begin, 1)
    path.write_text(head + begin + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1])


def write_rows(path, files, region):
    def number(row, key):
        return f"{row[key]:.2f}" if key in row else ""

    lines = ["", "| d | m | held as | sums in | threads | GEMM, GFlop/s | Gram matrix, of GEMM | of GEMM on G | "
             "of SYRK on G | triad, GB/s | one product, of triad | reading, GB/s | one product, of reading | 32 products, of GEMM | times one |",
             "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for file in files:
        run = json.loads(file.read_text())
        for row in run["rows"]:
            for kind in ("double", "float"):
                if kind == "float" and row["storage"] == "fp64":
                    continue  # sums of doubles are formed in double
                one = row[kind]
                gemm = row["dgemm_gflop_s" if kind == "double" else "sgemm_gflop_s"]
                lines.append(f"| {row['d']} | {row['m']} | {row['storage']} | {kind} | {run['threads']} | {gemm:.1f} | "
                             f"{one['gram_of_gemm']:.2f} | {number(one, 'gram_of_same_gemm')} | "
                             f"{number(one, 'gram_of_syrk')} | {row['triad_gb_s']:.1f} | {one['product_of_triad']:.2f} | "
                             f"{row['read_gb_s']:.1f} | {one['product_of_two_reads']:.2f} | "
                             f"{one['k']['32']['gflop_s'] / gemm:.2f} | {one['k']['32']['times_one']:.1f} |")
    put(path, region, [*lines, "", f"{processor()}, {run['blas']}, {run['compiler']}, {run['instruction_sets'][0]}."])


def write(path, result):
    lines = []
    for case in result["cases"]:
        lines += ["", f"d = {case['d']}, m = {case['m']}:", "",
                  "| | prepare, ms | and diagonal | one product | 32 products | error, random x | error, newest gradient |",
                  "|---|---|---|---|---|---|---|"]
        ours = {row["name"]: row for row in case["rows"]}["halfulp"]

        def cell(value, base):
            if value is None:
                return ""
            return f"{1e3 * value:.3g}" + ("" if base is None else f" ({value / base:.3g} times)")

        for row in case["rows"]:
            peer = not row["name"].startswith("halfulp")
            both = row["prepare"] + row["diagonal"] if "diagonal" in row else None
            lines.append(
                f"| {row['name']} | {cell(row.get('prepare'), ours['prepare'] if peer else None)} | "
                f"{cell(both, ours['prepare'] + ours['diagonal'] if peer else None)} | "
                f"{cell(row.get('product'), ours['product'] if peer else None)} | "
                f"{cell(row.get('product_32'), ours['product_32'] if peer else None)} | "
                f"{row.get('error_x', float('nan')):.1e} | {row.get('error_row', float('nan')):.1e} |")
    about = result["about"]
    lines += ["", "In brackets: how many times as long as halfulp with sums in double. " + ", ".join(
        f"{key} {value}" for key, value in about.items() if isinstance(value, str)) + "."]
    put(path, "peers", lines)


if __name__ == "__main__":
    main()
