#!/usr/bin/env python3
"""The peer of bench_vmf_sample: Wood's rejection and a Householder reflection in NumPy, in batches,
on one thread; and SciPy where it is installed. Prints one JSON object.

    vmf_sample.py [--numbers N]    N numbers a call, 8000000 unless said
"""

import os

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import argparse
import json
import platform
import sys
import time

import numpy as np

try:
    from scipy.stats import vonmises_fisher
except ImportError:
    vonmises_fisher = None


def cosines(p, kappa, n, rng):
    """Wood (1994); the betas by NumPy."""
    d = p - 1
    b = d / (2 * kappa + np.hypot(2 * kappa, d))
    x0 = (1 - b) / (1 + b)
    c = kappa * x0 + d * np.log1p(-x0 * x0)
    t = np.empty(n)
    left = np.arange(n)
    while left.size:
        z = rng.beta(d / 2, d / 2, left.size)
        w = (1 - (1 + b) * z) / (1 - (1 - b) * z)
        good = kappa * w + d * np.log1p(-x0 * w) - c >= np.log(rng.random(left.size))
        t[left[good]] = w[good]
        left = left[~good]
    return t


def sample(mu, kappa, n, rng, out):
    """Rows in batches that fit the cache."""
    p = mu.size
    sign = 1.0 if mu[0] < 0 else -1.0  # reflect sign * e1 to mu
    v = mu.copy()
    v[0] -= sign
    scale = 2 / (v @ v)
    batch = max(1 << 17, p) // p
    for begin in range(0, n, batch):
        x = out[begin : begin + batch]
        t = cosines(p, kappa, len(x), rng)
        rng.standard_normal(out=x)
        x[:, 0] = 0
        x *= (np.sqrt((1 - t) * (1 + t)) / np.sqrt(np.einsum("ij,ij->i", x, x)))[:, None]
        x[:, 0] = sign * t
        x -= np.multiply.outer(scale * (x @ v), v)
    return out


def norm_error(x):
    return float(np.max(np.abs(np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.longdouble)) - 1))) * 2**53


def timed(call, repeats):
    best = np.inf
    for _ in range(repeats):
        began = time.thread_time()
        call()
        best = min(best, time.thread_time() - began)
    return best


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--numbers", type=int, default=8000000)
    numbers = parser.parse_args().numbers
    rng = np.random.Generator(np.random.PCG64(42))
    rows = []
    for p in (3, 10, 100, 784, 4096, 32768):
        mu = np.sin(np.arange(1, p + 1))
        mu /= np.linalg.norm(mu)
        for share in (0, 1, 1000):
            kappa = float(share * p)
            n = max(1, numbers // p)
            out = np.empty((n, p))
            seconds = timed(lambda: sample(mu, kappa, n, rng, out), 5)
            row = {
                "p": p,
                "kappa": kappa,
                "samples": n,
                "numpy_samples_per_second": n / seconds,
                "numpy_norm_error_u": norm_error(out[:1000]),
            }
            if vonmises_fisher is not None and kappa > 0 and p <= 4096:
                few = max(1, min(n, 200000 // p))
                seconds = timed(
                    lambda: vonmises_fisher(mu, kappa).rvs(few, random_state=rng), 1)
                row["scipy_samples_per_second"] = few / seconds
            rows.append(row)
    json.dump(
        {
            "schema": 1,
            "numbers": numbers,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "rows": rows,
        },
        sys.stdout,
        indent=1,
    )
    print()


if __name__ == "__main__":
    main()
