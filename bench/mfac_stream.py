#!/usr/bin/env python3
"""bench/mfac_stream.py HALFULP [--dimension D] [--rows M] [--memory MIB] [--folder F] [--json OUT.json]
[--write PAGE.md]: gradients that are a file larger than the memory allowed.

G is an integer matrix B of M rows and 19,997 columns, a prime number of them, repeated up to D columns (2e7 unless
said, 10 GB in float32), x a repeated integer vector: so G G^T and G x are integers, H^-1 x is known at every place
from M numbers, here in decimals of 60 digits, and no tile of the program is a period of the file. The program
has --memory MiB of address space (2048), and its file is dropped from the caches before the cold run where that
is allowed. Beside it, in the same run: reading the file once in pieces of 4 MiB by as many threads, cold and warm.
"""
import argparse
import decimal
import json
import os
import re
import resource
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from gp_hm import processor
from mfac_table import put

PERIOD = 19_997
DAMPING = 1e-3


def solve(a, b):
    """By Cholesky's factorisation, in decimals."""
    n = len(b)
    for j in range(n):
        for k in range(j):
            f = a[j][k]
            if f:
                for i in range(j, n):
                    a[i][j] -= a[i][k] * f
        root = a[j][j].sqrt()
        for i in range(j, n):
            a[i][j] /= root
    for i in range(n):
        b[i] = (b[i] - sum(a[i][k] * b[k] for k in range(i))) / a[i][i]
    for i in reversed(range(n)):
        b[i] = (b[i] - sum(a[k][i] * b[k] for k in range(i + 1, n))) / a[i][i]
    return b


def reference(b, x, d):
    """One period of H^-1 x."""
    decimal.getcontext().prec = 60
    whole, rest = divmod(d, PERIOD)
    part = b[:, :rest]
    gram = whole * (b @ b.T) + part @ part.T
    right = whole * (b @ x) + part @ x[:rest]
    m = len(b)
    damping = decimal.Decimal(DAMPING)
    core = [[decimal.Decimal(int(gram[i, j])) + (m * damping if i == j else 0) for j in range(m)] for i in range(m)]
    a = solve(core, [decimal.Decimal(int(v)) for v in right])
    # in two parts of double, whose products with small integers are nearly exact
    high = np.array([float(v) for v in a])
    low = np.array([float(v - decimal.Decimal(h)) for v, h in zip(a, high)])
    exact = np.longdouble
    y = x.astype(exact) - b.T.astype(exact) @ high.astype(exact) - b.T.astype(exact) @ low.astype(exact)
    return y / exact(DAMPING)


def write_header(file, shape):
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def write_matrix(path, b, d):
    with open(path, "wb") as file:
        write_header(file, (len(b), d))
        for row in b:
            period = row.astype(np.float32)
            np.resize(period, d).tofile(file)
        file.flush()
        os.fsync(file.fileno())


def drop(path):
    """Takes the file out of the caches."""
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_seconds(path, threads):
    size, piece = os.path.getsize(path), 1 << 22
    pieces = iter(range(0, size, piece))
    lock = threading.Lock()

    def work():
        buffer = bytearray(piece)
        with open(path, "rb", buffering=0) as file:
            while True:
                with lock:
                    at = next(pieces, None)
                if at is None:
                    return
                os.preadv(file.fileno(), [buffer], at)

    start = time.perf_counter()
    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--dimension", type=int, default=20_000_000)
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--memory", type=int, default=2048)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    d, m, threads = options.dimension, options.rows, os.cpu_count()
    random = np.random.default_rng(1)
    b = random.integers(-9, 10, (m, PERIOD))
    x = random.integers(-9, 10, PERIOD)
    y = reference(b, x, d)
    result = {"schema": 1, "processor": processor(), "threads": threads, "d": d, "m": m, "memory_mib": options.memory,
              "runs": []}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        g_file, x_file, y_file = (str(Path(folder) / name) for name in ("g.npy", "x.npy", "y.npy"))
        write_matrix(g_file, b, d)
        np.save(x_file, np.resize(x.astype(np.float32), d))
        size = os.path.getsize(g_file)
        result["bytes"] = size
        for kind in ("cold", "warm"):
            if kind == "cold":
                drop(g_file)
            reading = read_seconds(g_file, threads)
            if kind == "cold":
                drop(g_file)
            limit = options.memory << 20

            def bound():
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))  # noqa: B023

            for precision in ("auto", "fp64"):
                if kind == "cold":
                    drop(g_file)
                start = time.perf_counter()
                run = subprocess.run(["/usr/bin/env", "time", "-v", options.program, "mfac", "ihvp", g_file, x_file,
                                      "--damping", str(DAMPING), "--precision", precision, "--out", y_file, "--json"],
                                     capture_output=True, text=True, preexec_fn=bound)
                seconds = time.perf_counter() - start
                if run.returncode != 0:
                    raise SystemExit(run.stderr)
                resident = int(re.search(r"Maximum resident set size \(kbytes\): (\d+)", run.stderr)[1]) / 1024
                computed = np.load(y_file, mmap_mode="r")
                worst = square = 0.0
                for begin in range(0, d, PERIOD):
                    error = (computed[begin:begin + PERIOD] - y[:min(PERIOD, d - begin)]).astype(float)
                    square += float(error @ error)
                    worst = max(worst, float(np.abs(error).max()))
                norm = float(np.sqrt((np.resize(y[:PERIOD] ** 2, d)).sum()))
                said = json.loads(run.stdout)["report"]
                result["runs"].append({
                    "file": kind, "precision": precision, "seconds": seconds, "reading_seconds": reading,
                    "passes_gb_s": 2 * size / seconds * 1e-9, "reading_gb_s": size / reading * 1e-9,
                    "of_reading": 2 * reading / seconds, "resident_mib": resident,
                    "error": square ** 0.5 / norm, "worst_entry": worst / float(np.abs(y).max()), "said": said})
                print(json.dumps(result["runs"][-1]), flush=True)
    if options.write:
        lines = ["", "| file | --precision | seconds | GB/s, two passes | reading, GB/s | of reading | resident, MiB | "
                 "error | error said |", "|---|---|---|---|---|---|---|---|---|"]
        for run in result["runs"]:
            lines.append(f"| {run['file']} | {run['precision']} | {run['seconds']:.1f} | {run['passes_gb_s']:.2f} | "
                         f"{run['reading_gb_s']:.2f} | {run['of_reading']:.2f} | {run['resident_mib']:.0f} | "
                         f"{run['error']:.1e} | {run['said']['error']:.1e} |")
        put(options.write, "stream", [*lines, "", f"{result['processor']}, {threads} threads, d = {d}, m = {m}, "
                                      f"{1e-9 * result['bytes']:.1f} GB, {options.memory} MiB allowed."])
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
