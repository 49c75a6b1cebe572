"""Ours beside the classical peers: error and time of both.

    ratio.py --program BENCH_GP_PDE --peer BENCH_CHEBYSHEV --json OUT.json [--write PAGE.md] INPUT.toml...

A speed-up without its error is not published: both errors stand beside the ratio. `solve` is what a
repeat with new data costs: evaluating the data, solving, evaluating on the output grid; `all` adds
the set-up. Ours twice where precision = "double" applies. The peer with one BLAS thread and with
all, whichever solves faster. --write puts the table between `<!-- figures:begin peers -->` and
`<!-- figures:end -->`.
"""
import argparse
import datetime
import json
import os
import platform
import subprocess
import tempfile
from pathlib import Path


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def seconds(value):
    if value < 1e-4:
        return f"{value * 1e6:.1f} µs"
    return f"{value * 1e3:.2f} ms" if value < 1 else f"{value:.2f} s"


def lines_of(command, **environment):
    """The JSON objects that a program prints, one a line; none for a file that it does not take."""
    run = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True, env={**os.environ, **environment})
    return [json.loads(line) for line in run.stdout.splitlines()]


def measure_ours(options, path, precision):
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        text = path.read_text()
        if precision == "double":
            if "[solver]" in text:
                return None
            text += '\n[solver]\nprecision = "double"\n'
        copy.write_text(text)
        ours, = lines_of([options.program, "--repeats", options.repeats, copy])
    ours["precision"] = precision
    ours["repeat"] = ours["solve"] + ours["evaluate"]
    ours["all"] = ours["repeat"] + ours["setup"]
    return ours


def measure_peers(options, path):
    best = {}
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        for row in lines_of([options.peer, "--repeats", options.repeats, path],
                            OPENBLAS_NUM_THREADS=str(threads), OMP_NUM_THREADS=str(threads)):
            row["threads"] = threads
            row["repeat"] = row["data"] + row["solve"]
            row["all"] = row["repeat"] + row["setup"]
            if row["method"] not in best or row["repeat"] < best[row["method"]]["repeat"]:
                best[row["method"]] = row
    return list(best.values())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, required=True)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    parser.add_argument("inputs", nargs="+", type=Path)
    options = parser.parse_args()
    rows = []
    for path in options.inputs:
        peers = measure_peers(options, path)
        if not peers:
            continue
        for precision in ("dd", "double"):
            ours = measure_ours(options, path, precision)
            # Where double does not apply, dd is used, and the second row would say the same.
            if ours and (precision == "dd" or ours["solve"] < 0.5 * rows[-1]["halfulp"]["solve"]):
                rows.append({"problem": path.stem, "halfulp": ours, "peers": peers})
    machine = {"processor": processor(), "cores": len(os.sched_getaffinity(0)),
               "date": str(datetime.date.today())}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"schema": 2, "machine": machine, "rows": rows}, indent=2) + "\n")
    lines = [
        "| problem | halfulp: unknowns | error | set-up | solve | peer | unknowns | error | set-up | solve"
        " | peer / halfulp, solve | all |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours = row["halfulp"]
        unknowns = 1
        for modes in ours["modes"]:
            unknowns *= modes
        name = row["problem"] + (", double" if ours["precision"] == "double" else "")
        for peer in row["peers"]:
            lines.append(
                f"| {name} | {unknowns} | {ours['error']:.1e} | {seconds(ours['setup'])}"
                f" | {seconds(ours['repeat'])} | {peer['method']}, N = {peer['n']}"
                f" | {peer['unknowns']} | {peer['error']:.1e} | {seconds(peer['setup'])}"
                f" | {seconds(peer['repeat'])}"
                f" | {peer['repeat'] / ours['repeat']:.2f} | {peer['all'] / ours['all']:.2f} |")
    lines += ["", f"{machine['processor']}, {machine['cores']} cores, {machine['date']}; medians of"
              f" {options.repeats}. Ratios above 1: halfulp is faster."]
    table = "\n".join(lines)
    print(table)
    if options.write:
        begin, end = "<!-- figures:begin peers -->\n", "<!-- figures:end -->"
        before, found, rest = options.write.read_text().partition(begin)
        if not found:
            raise SystemExit(f"ratio.py: {options.write} has no region 'peers'")
        _, _, after = rest.partition(end)
        options.write.write_text(f"{before}{begin}{table}\n{end}{after}")


if __name__ == "__main__":
    main()
