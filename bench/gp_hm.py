"""The paper's table (Fang et al. 2024) beside our runs of its method.

    gp_hm.py --program BENCH_GP_HM --runs FOLDER --json OUT.json [--write PAGE.md] [--only u1,u3] [--collect]

Every run is one call of bench_gp_hm at the settings of the released runs, for hours in all; its output is
kept in FOLDER, and a run that is there is not repeated; what OUT.json has is kept too. --collect runs
nothing. Two schedules: "decay", the
rate falls from 0.01 to 1e-5 over the second half of the steps; "constant", 0.01 throughout, as published.
--write puts the table between `<!-- figures:begin gp_hm -->` and `<!-- figures:end -->`.
"""
import argparse
import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

KERNELS = ["student-t", "gaussian", "matern", "se"]
# Released runs: errors (best of 20 checkpoints by test error) in the order of KERNELS, and seconds of the
# two mixtures.
PAPER = {
    "u1": ([6.5e-7, 4.0e-7, 3.3e-2, 2.7e-2], [1665, 1329]),
    "u2": ([2.7e-3, 2.1e-3, 9.9e-1, 9.7e-1], [3044, 4452]),
    "u2-unit": ([5.5e-4, 3.5e-4, 2.5e-1, 1.7e-1], [5045, 4667]),
    "u3": ([3.5e-6, 1.5e-6, 5.2e-2, 8.7e-1], [834, 1329]),
    "u4": ([9.0e-7, 1.6e-6, 1.8e-2, 3.2e-1], [7451, 6043]),
    "u5": ([4.2e-4, 1.8e-3, 6.3e-1, 9.8e-1], [5705, 4033]),
    "u6": ([6.9e-5, 6.5e-5, 6.3e-1, 1.0], [8209, 5586]),
    "u6-quarter": ([None] * 4, [None] * 2),  # ours: u6 scaled down
    "u7": ([1.0e-3, 1.1e-3, 3.6e-2, 9.5e-1], [6627, 6132]),
    "allen-cahn": ([4.9e-6, 7.7e-7, 3.3e-2, 2.8e-2], [2333, 1998]),
    "allen-cahn-product": ([4.8e-6, 4.2e-6, 5.2e-2, 1.1e-2], [2319, 1996]),
    "allen-cahn-2d": ([5.7e-3, 2.6e-3, 3.0e-1, 3.4e-1], [18244, 15926]),
    "advection": ([1.4e-4, 1.4e-3, 2.3e-2, 1.2e-2], [2234, 9654]),
}
PLANE = {"u6", "u6-quarter", "u7", "allen-cahn-2d", "advection"}
SCHEDULES = {"decay": 1e-5, "constant": 0}


def processor():
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def run(options, problem, kernel, schedule):
    kept = options.runs / f"{problem}.{kernel}.{schedule}.json"
    if kept.exists() and kept.stat().st_size > 0:
        return json.loads(kept.read_text())
    if options.collect:
        return None
    steps = options.plane_iterations if problem in PLANE else options.line_iterations
    command = [options.program, problem, kernel, "--iterations", str(steps),
               "--final-learning-rate", str(SCHEDULES[schedule])]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    part = kept.with_suffix(".part")
    part.write_text(text)
    part.replace(kept)
    return json.loads(text)


def seconds(value):
    return f"{value:.0f}"


def table(rows):
    lines = [
        "| problem | kernel | paper, best of 20 | last iterate | paper / ours | steps | seconds"
        " | paper's seconds | constant rate: last | best of 20 |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        decay, constant = row.get("decay"), row.get("constant")
        paper = row["paper"]
        cells = [row["problem"], row["kernel"], f"{paper:.1e}" if paper else "-"]
        cells += [f"{decay['error']:.1e}", f"{paper / decay['error']:.2g}" if paper else "-",
                  str(decay["iterations"]), seconds(decay["seconds"])] if decay else ["-"] * 4
        cells.append(str(row["paper_seconds"]) if row["paper_seconds"] else "-")
        cells += [f"{constant['error']:.1e}",
                  f"{constant['best_checkpoint_error']:.1e}"] if constant else ["-", "-"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", help="problems, separated by commas")
    parser.add_argument("--collect", action="store_true", help="use the runs that are there")
    parser.add_argument("--line-iterations", type=int, default=100000)
    parser.add_argument("--plane-iterations", type=int, default=50000)
    options = parser.parse_args()
    options.runs.mkdir(parents=True, exist_ok=True)
    rows = []
    old = json.loads(options.json.read_text())["rows"] if options.json.exists() else []
    measured = {(row["problem"], row["kernel"]): row for row in old}
    wanted = options.only.split(",") if options.only else list(PAPER)
    for problem in PAPER:
        errors, paper_seconds = PAPER[problem]
        for index, kernel in enumerate(KERNELS):
            row = {"problem": problem, "kernel": kernel, "paper": errors[index],
                   "paper_seconds": paper_seconds[index] if index < 2 else None}
            row |= {k: v for k, v in measured.get((problem, kernel), {}).items() if k in SCHEDULES}
            for schedule in SCHEDULES:
                if problem not in wanted or schedule in row or (schedule == "constant" and index > 1):
                    continue
                result = run(options, problem, kernel, schedule)
                if result:
                    row[schedule] = result
            if "decay" in row or "constant" in row:
                rows.append(row)
    machine = {"processor": processor(), "cores": len(os.sched_getaffinity(0)),
               "threads": os.environ.get("OMP_NUM_THREADS", "all"), "date": str(datetime.date.today())}
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps({"schema": 1, "machine": machine, "rows": rows}, indent=1) + "\n")
    text = table(rows)
    print(text)
    if options.write:
        page = options.write.read_text()
        begin, end = "<!-- figures:begin gp_hm -->", "<!-- figures:end -->"
        head, rest = page.split(begin, 1)
        options.write.write_text(head + begin + "\n" + text + "\n" + end + rest.split(end, 1)[1])


if __name__ == "__main__":
    main()
