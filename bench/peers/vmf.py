"""scipy.stats.vonmises_fisher.fit beside halfulp::vmf::fit, on the same directions, on one thread, both
warmed up and the best of 20.

    bench/peers/vmf.py PROGRAM BENCH_VMF [--rows N] [--json OUT.json] [--write PAGE.md]

Samples come from the program (`halfulp vmf sample`), so that both fit the same file. `error` is how far
the concentration is from the root of A_p(kappa) = R with the resultant length R of the same data: the
residual in 40 digits over the slope, relative. SciPy fails where its Bessel functions underflow; what it
says or raises is in the table.
"""
import argparse
import json
import os
import subprocess
import tempfile
import time
import warnings
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
import mpmath  # noqa: E402
import numpy as np  # noqa: E402
import scipy  # noqa: E402
from scipy import stats  # noqa: E402

CASES = [(p, ratio) for p in (3, 100, 1000, 2048) for ratio in (0.1, 1.0, 10.0)]


def mean_length(p, kappa):
    """I_{p/2}(kappa)/I_{p/2-1}(kappa) by its continued fraction, backwards, in 40 digits."""
    kappa, v = mpmath.mpf(kappa), mpmath.mpf(p) / 2 - 1
    ratio = mpmath.mpf(0)
    for k in range(int(60 + 2 * kappa), 0, -1):
        ratio = 1 / (2 * (v + k) / kappa + ratio)
    return ratio


def error(p, kappa, length):
    """Relative distance of kappa from the root, by one step of Newton."""
    if not (np.isfinite(kappa) and kappa > 0):
        return float("nan")
    a = mean_length(p, kappa)
    slope = 1 - a * a - (p - 1) / mpmath.mpf(kappa) * a
    return float(abs(a - mpmath.mpf(length)) / slope / kappa)


def ours(bench, points):
    command = [bench, "--fit", points]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def theirs(x):
    best, kappa, said = float("inf"), float("nan"), ""
    for _ in range(20):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            start = time.perf_counter()
            try:
                _, kappa = stats.vonmises_fisher.fit(x)
            except Exception as problem:  # noqa: BLE001: whatever it is, it is the result
                said = f"{type(problem).__name__}: {problem}"
            best = min(best, time.perf_counter() - start)
            said = said or "; ".join(sorted({str(w.message) for w in caught}))
    return float(kappa), best, said


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("bench")
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    mpmath.mp.dps = 40
    rows = []
    for p, ratio in CASES:
        with tempfile.TemporaryDirectory() as folder:
            points = str(Path(folder) / "points.npy")
            subprocess.run([options.program, "vmf", "sample", "--dim", str(p), "--kappa",
                            str(ratio * p), "--count", str(options.rows), "--seed", "7", "--out", points],
                           check=True, capture_output=True)
            fit = ours(options.bench, points)
            x = np.load(points)
        kappa, seconds, said = theirs(x)
        rows.append({
            "p": p, "kappa": ratio * p, "rows": options.rows,
            "halfulp": {"kappa": fit["kappa"], "seconds": fit["seconds"],
                        "error": error(p, fit["kappa"], fit["length"])},
            "scipy": {"kappa": kappa, "seconds": seconds, "error": error(p, kappa, fit["length"]), "said": said},
        })
        print(rows[-1], flush=True)
    lines = ["| p | kappa | halfulp: relative error of the fit | seconds | SciPy: relative error | seconds"
             " | SciPy / halfulp | what SciPy says |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        a, b = row["halfulp"], row["scipy"]
        wrong = "no result" if not np.isfinite(b["kappa"]) else f"{b['error']:.1e}"
        lines.append(f"| {row['p']} | {row['kappa']:g} | {a['error']:.1e} | {a['seconds']:.2g} | {wrong} | "
                     f"{b['seconds']:.2g} | {b['seconds'] / a['seconds']:.2g} | {b['said'].split(chr(10))[0][:90]} |")
    lines += ["", f"{options.rows} rows, one thread, SciPy {scipy.__version__}, NumPy {np.__version__}."]
    if options.json:
        options.json.write_text(json.dumps({"schema": 1, "scipy": scipy.__version__, "rows": rows},
                                           indent=1) + "\n")
    if options.write:
        page = options.write.read_text()
        begin, end = "<!-- figures:begin scipy -->", "<!-- figures:end -->"
        head, rest = page.split(begin, 1)
        options.write.write_text(head + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1])


if __name__ == "__main__":
    main()
