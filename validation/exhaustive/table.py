#!/usr/bin/env python3
"""validation/exhaustive/table.py [FILE.csv]: writes the table of single precision of docs/bessel.md.

FILE.csv is what `exhaustive_bessel_float --csv` adds rows to; unless said, bessel_float.csv beside this file.
"""
import csv
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
DOCS = HERE.parent.parent / "docs" / "bessel.md"
MARK = "<!-- exhaustive: written by validation/exhaustive/table.py -->"


def main():
    path = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "bessel_float.csv"
    with path.open() as file:
        rows = list(csv.DictReader(file))
    functions = list(dict.fromkeys(row["function"] for row in rows))
    found = {(row["function"], float(row["v"])): row for row in rows}
    orders = sorted({float(row["v"]) for row in rows})
    missing = [(f, v) for f in functions for v in orders if (f, v) not in found]
    strides, counts = {row["stride"] for row in rows}, {int(row["x"]) for row in rows}
    if missing or len(found) != len(rows) or len(strides) != 1 or len(counts) != 1:
        sys.exit(f"{path}: missing {missing}, or not one row each of the same points")
    (stride,), (count,) = strides, counts
    which = "every positive finite float" if stride == "1" else f"each {stride}. positive finite float"
    machine = "; ".join(sorted({", ".join(row[k] for k in ("compiler", "instruction_set", "processor")) for row in rows}))
    total = sum(int(row["x"]) for row in rows)
    minutes = sum(float(row["cpu_seconds"]) for row in rows) / 60
    lines = ["", f"{machine}: {which}, {count} at each order; {total} values in {minutes:.0f} minutes of one thread, "
                 f"{sum(int(row['above_1']) for row in rows)} of them off by more than one unit in the last place.", "",
             "| v | " + " | ".join(f"`{f} --float`, largest error in ulp | at x" for f in functions) + " |",
             "|---" + "|---|---" * len(functions) + "|"]
    for v in orders:
        cells = []
        for f in functions:
            row = found[f, v]
            cells += [f"{float(row['worst_ulp']):.6f}", f"`{row['worst_x']}`"]
        lines.append(f"| {v:.9g} | " + " | ".join(cells) + " |")
    text = DOCS.read_text()
    assert text.count(MARK) == 1
    table = MARK + "\n" + "\n".join(lines) + "\n\n<!-- end -->"
    DOCS.write_text(re.sub(re.escape(MARK) + ".*?<!-- end -->", lambda _: table, text, count=1, flags=re.S))


main()
