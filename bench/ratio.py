"""Ours beside the classical peers: error and time of both.

    ratio.py --program BENCH_GP_PDE --peer CHEBYSHEV.json --json OUT.json [--write PAGE.md]

A speed-up without its error is not published: both errors stand beside the ratio. `solve` is what a
repeat with new data costs: evaluating the data, solving, evaluating on the output grid; `all` adds
the set-up. --write puts the table between `<!-- figures:begin peers -->` and `<!-- figures:end -->`.
"""
import argparse
import datetime
import json
import os
import platform
import subprocess
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
    return f"{value * 1e3:.2f} ms" if value < 1 else f"{value:.2f} s"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--peer", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    peers = json.loads(options.peer.read_text())
    rows = []
    for name, methods in peers.items():
        command = [options.program, "--repeats", str(options.repeats),
                   root / "solvers/inputs" / f"{name}.toml"]
        ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        ours["repeat"] = ours["solve"] + ours["evaluate"]
        ours["all"] = ours["repeat"] + ours["setup"]
        for method in methods:
            method["repeat"] = method["data"] + method["solve"]
            method["all"] = method["repeat"] + method["setup"]
        rows.append({"problem": name, "halfulp": ours, "peers": methods})
    machine = {"processor": processor(), "cores": len(os.sched_getaffinity(0)),
               "date": str(datetime.date.today())}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"schema": 1, "machine": machine, "rows": rows}, indent=2) + "\n")
    lines = [
        "| problem | halfulp: error | set-up | solve | peer | error | set-up | solve"
        " | peer / halfulp, solve | all |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        ours = row["halfulp"]
        for method in row["peers"]:
            lines.append(
                f"| {row['problem']} | {ours['error']:.1e} | {seconds(ours['setup'])}"
                f" | {seconds(ours['repeat'])} | {method['method']}, N = {method['n']},"
                f" {method['threads']} thread(s)"
                f" | {method['error']:.1e} | {seconds(method['setup'])} | {seconds(method['repeat'])}"
                f" | {method['repeat'] / ours['repeat']:.2f} | {method['all'] / ours['all']:.2f} |")
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
