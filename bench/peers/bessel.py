"""bench_bessel with SciPy beside: logarithms of the scaled functions, scipy.special.ive and kve, on one thread.

    bench/peers/bessel.py PROGRAM BENCH_BESSEL OUT.json [--points N]

Runs BENCH_BESSEL, whose regions are measured again with SciPy in the same minutes: N points of each, 20000
unless said, the least of five. Errors are against the accurate mode of PROGRAM, in u max(1, |log|).
"""
import argparse
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np  # noqa: E402
import scipy  # noqa: E402
from scipy import special  # noqa: E402


def reference(program, name, v, x):
    with tempfile.TemporaryDirectory() as folder:
        points, values = Path(folder) / "points.csv", Path(folder) / "values.csv"
        points.write_text("v,x\n" + "".join(f"{a.hex()},{b.hex()}\n" for a, b in zip(v.tolist(), x.tolist())))
        subprocess.run([program, "bessel", name, "--points", points, "--out", values, "--hex", "--quiet"], check=True)
        lines = values.read_text().split()
    at = lines[0].split(",").index("value")
    return np.array([float.fromhex(line.split(",")[at]) for line in lines[1:]])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("bench")
    parser.add_argument("out", type=Path)
    parser.add_argument("--points", type=int, default=20000)
    options = parser.parse_args()
    result = json.loads(subprocess.run([options.bench], check=True, capture_output=True, text=True).stdout)
    for row in result["rows"]:
        random = np.random.default_rng(1)

        def sample(low, high):
            u = 1 - random.random(options.points)  # noqa: B023
            return low * (high / low) ** u if row["logarithmic"] else low + (high - low) * u  # noqa: B023

        v, x = sample(*row["v"]), sample(*row["x"])
        first = row["function"] == "log I"
        best = float("inf")
        with np.errstate(all="ignore"):
            for _ in range(5):
                start = time.perf_counter()
                value = np.log(special.ive(v, x)) + x if first else np.log(special.kve(v, x)) - x
                best = min(best, time.perf_counter() - start)
        exact = reference(options.program, "log-i" if first else "log-k", v, x)
        good = np.isfinite(value)
        error = np.abs(value - exact)[good] / np.maximum(1, np.abs(exact[good]))
        row["SciPy"] = {"ns": 1e9 * best / options.points,
                        "max_mixed_u": float(error.max(initial=0) * 2**53),
                        "not_finite_percent": float(100 * np.mean(~good))}
        print(row["region"], row["function"], row["halfulp fast"], row["SciPy"], flush=True)
    result["scipy"] = scipy.__version__
    options.out.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
