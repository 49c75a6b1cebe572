#!/usr/bin/env python3
"""bench/mfac_fashion_table.py: the tables of docs/mfac.md from bench/results/mfac_pruning.csv and
mfac_optimisers.csv, which scripts/mfac_fashion writes."""
import csv
import pathlib

ROOT = pathlib.Path(__file__).parent.parent


def read(name):
    with open(ROOT / "bench/results" / name, newline="") as file:
        return list(csv.DictReader(file))


def pruning():
    rows = read("mfac_pruning.csv")
    names = [key.removesuffix(" mean") for key in rows[0] if key.endswith(" mean")]
    lines = ["| pruned, % | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for row in rows:
        cells = [f"{float(row[n + ' mean']):.1f} ± {float(row[n + ' deviation']):.1f}" for n in names]
        lines.append(f"| {100 * float(row['sparsity']):.0f} | " + " | ".join(cells) + " |")
    return lines


def optimisers():
    last = read("mfac_optimisers.csv")[-1]
    names = [key.removesuffix(" accuracy") for key in last if key.endswith(" accuracy")]
    lines = ["| optimiser | test accuracy, % | training loss |", "|---|---|---|"]
    for n in names:
        lines.append(f"| {n} | {float(last[n + ' accuracy']):.2f} ± {float(last[n + ' accuracy deviation']):.2f} | "
                     f"{float(last[n + ' loss']):.4f} ± {float(last[n + ' loss deviation']):.4f} |")
    return lines


def main():
    path = ROOT / "docs/mfac.md"
    page = path.read_text()
    for name, lines in (("pruning", pruning()), ("optimisers", optimisers())):
        begin, end = f"<!-- figures:begin {name} -->", "<!-- figures:end -->"
        head, rest = page.split(begin, 1)
        page = head + begin + "\n" + "\n".join(lines) + "\n" + end + rest.split(end, 1)[1]
    path.write_text(page)


if __name__ == "__main__":
    main()
