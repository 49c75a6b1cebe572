"""EM for a mixture of von Mises-Fisher distributions in NumPy and SciPy, beside `halfulp vmf mixture`.

    bench/peers/vmf_mixture.py PROGRAM X.npy [--labels L.npy] [--components 10,100] [--iterations 50]
        [--json OUT.json] [--write PAGE.md]

Both start from the same rows as means and do the same iterations: products by BLAS, responsibilities
with scipy.special.logsumexp, sums by BLAS, in double, on all threads. The traces of the log-likelihood are
compared; times are of an iteration, the start and the reading of files apart. With labels also the
agreement of the clusters with them, beside spherical k-means and scikit-learn's KMeans if it is installed.
"""
import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.special import ive, logsumexp

CAP = 1e8  # of kappa: the default of halfulp::vmf::MixtureOptions


def log_normaliser(p, kappa):
    v = p / 2 - 1
    return v * np.log(kappa) - p / 2 * np.log(2 * np.pi) - np.log(ive(v, kappa)) - kappa


def concentration(p, length):
    """Newton from Sra's start; a component of one row gets the cap that halfulp has too."""
    length = np.minimum(length, 1 - 1e-12)
    kappa = np.minimum(length * (p - length**2) / (1 - length**2), CAP)
    for _ in range(20):
        a = ive(p / 2, kappa) / ive(p / 2 - 1, kappa)
        slope = np.maximum(1 - a * a - (p - 1) / kappa * a, 1e-14)
        kappa = np.clip(kappa - (a - length) / slope, 1e-3, CAP)
    return kappa


def numpy_em(x, means, iterations):
    n, p = x.shape
    nearest = np.argmax(x @ means.T, axis=1)
    sums = np.zeros_like(means)
    np.add.at(sums, nearest, x)
    count = np.bincount(nearest, minlength=len(means)).astype(float)
    lengths = np.linalg.norm(sums, axis=1)
    kappa = np.full(len(means), concentration(p, lengths.sum() / n))
    mu, part = sums / lengths[:, None], count / n
    trace, seconds = [], []
    for _ in range(iterations + 1):
        start = time.perf_counter()
        logs = x @ (kappa[:, None] * mu).T + (np.log(part) + log_normaliser(p, kappa))
        density = logsumexp(logs, axis=1)
        trace.append(density.sum())
        r = np.exp(logs - density[:, None])
        sums, count = r.T @ x, r.sum(axis=0)
        lengths = np.linalg.norm(sums, axis=1)
        kappa, mu, part = concentration(p, lengths / count), sums / lengths[:, None], count / n
        seconds.append(time.perf_counter() - start)
    return trace, seconds


def agreement(a, b):
    """Adjusted Rand index and normalised mutual information (arithmetic mean)."""
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)
    n, rows, columns = table.sum(), table.sum(1), table.sum(0)
    pairs = lambda t: (t * (t - 1) / 2).sum()  # noqa: E731
    expected = pairs(rows) * pairs(columns) / (n * (n - 1) / 2)
    rand = (pairs(table) - expected) / ((pairs(rows) + pairs(columns)) / 2 - expected)
    entropy = lambda t: -(t[t > 0] / n * np.log(t[t > 0] / n)).sum()  # noqa: E731
    mutual = entropy(rows) + entropy(columns) - entropy(table.ravel())
    return rand, 2 * mutual / (entropy(rows) + entropy(columns))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program")
    parser.add_argument("points")
    parser.add_argument("--labels")
    parser.add_argument("--components", default="10,100")
    parser.add_argument("--iterations", type=int, default=50)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    x = np.load(options.points)
    rows = []
    for k in map(int, options.components.split(",")):
        means = x[np.random.default_rng(k).choice(len(x), k, replace=False)]
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "means.npy", means)
            command = [options.program, "vmf", "mixture", options.points, "--components", str(k), "--start",
                       str(Path(folder) / "means.npy"), "--iterations"]

            def run(iterations):
                out = str(Path(folder) / f"out{iterations}")
                subprocess.run(command + [str(iterations), "--tolerance", "0", "--out", out, "--quiet"],
                               capture_output=True)
                report = json.loads((Path(out) / "report.json").read_text())
                return report.get("result", report)

            few, many = run(1), run(options.iterations)
        done = len(many["trace"]) - len(few["trace"])
        ours = (many["seconds"] - few["seconds"]) / done
        trace, seconds = numpy_em(x, means, options.iterations)
        mine = np.array(many["trace"][: len(trace)])
        apart = np.max(np.abs(mine - trace[: len(mine)]) / np.abs(mine))
        rows.append({"components": k, "iterations": done, "seconds": ours,
                     "numpy_seconds": float(np.mean(seconds[1:])), "numpy_best": float(np.min(seconds)),
                     "trace_apart": float(apart), "log_likelihood": float(mine[-1])})
        rows[-1]["ratio"] = rows[-1]["numpy_seconds"] / ours
        print(rows[-1], flush=True)
    result = {"schema": 1, "numpy": np.__version__, "n": len(x), "p": x.shape[1], "rows": rows}
    if options.write:
        lines = ["| components | iterations | halfulp, ms | NumPy, ms | NumPy / halfulp | log-likelihoods apart |",
                 "|---|---|---|---|---|---|"]
        for row in rows:
            apart = ("NumPy's are no numbers" if np.isnan(row["trace_apart"])
                     else f"{row['trace_apart']:.1e}, relative")
            lines.append(f"| {row['components']} | {row['iterations']} | {1e3 * row['seconds']:.1f} | "
                         f"{1e3 * row['numpy_seconds']:.0f} | {row['ratio']:.1f} | {apart} |")
        page = options.write.read_text()
        begin, end = "<!-- figures:begin em -->", "<!-- figures:end -->"
        head, rest = page.split(begin, 1)
        options.write.write_text(head + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1])
    if options.labels:
        labels = np.load(options.labels).astype(int)
        result["agreement"] = {}
        with tempfile.TemporaryDirectory() as folder:
            for verb, name in (("mixture", "mixture"), ("kmeans", "spherical k-means")):
                subprocess.run([options.program, "vmf", verb, options.points, "--components", "10", "--seed", "1",
                                "--restarts", "5", "--out", f"{folder}/{verb}", "--quiet"], capture_output=True)
                result["agreement"][name] = agreement(np.load(f"{folder}/{verb}/assignment.npy"), labels)
        try:
            from sklearn.cluster import KMeans
            found = KMeans(10, n_init=5, random_state=1).fit(x).labels_
            result["agreement"]["scikit-learn KMeans"] = agreement(found, labels)
        except ImportError:
            pass
        print(result["agreement"])
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
