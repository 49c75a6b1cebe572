#!/usr/bin/env python3
"""bench/bessel_table.py BENCH.json [VALIDATE.json]: writes the tables of docs/bessel.md.

BENCH.json is what bench_bessel prints or bench/peers/bessel.py writes, VALIDATE.json what
`halfulp validate bessel --json` prints; without it that table stays. There is a table of speeds for processors
with AVX-512 and one for others.
"""
import json
import pathlib
import re
import sys


def number(value):
    return f"{value:.3g}" if value < 1e4 else f"{value:.1e}".replace("e+0", "e")


def accuracy(validate):
    lines = ["", f"{validate['report']['environment']}", "",
             "| function | metric | points | largest | 99 % | median | budget |", "|---|---|---|---|---|---|---|"]
    for f in validate["result"]["functions"]:
        r = f["regions"][-1]
        metric = "ulp" if f["metric"] == "ulp" else "u max(1, \\|log\\|)"
        name = f["name"].removeprefix("bessel ")
        lines.append(f"| `{name}` | {metric} | {r['n']} | {r['max']:.3f} | {r['p99']:.3f} | "
                     f"{r['median']:.3f} | {r['limit']:g} |")
    checks = validate["result"]["checks"]
    lines += ["", "Identities over random pairs: " + "; ".join(
        f"{c['name']}, {c['violations']} violations in {c['n']}" for c in checks) + "."]
    return "\n".join(lines)


def speed(bench):
    names = [k for k, cell in bench["rows"][1].items() if isinstance(cell, dict)]
    names.sort(key=lambda n: (not n.startswith("halfulp"), n))
    lines = ["", f"{bench['compiler']}, {bench['instruction_sets'][0]}, batches of {bench['points']}", "",
             "| region | function | " + " | ".join(names) + " |", "|---|---" * 1 + "|---" * len(names) + "|"]
    for row in bench["rows"]:
        cells = []
        for n in names:
            if n not in row:
                cells.append("")
                continue
            c = row[n]
            lost = f", {c['not_finite_percent']:.3g} % not finite" if c["not_finite_percent"] > 0 else ""
            ours = n.startswith("halfulp")
            times = "" if ours else f" ({number(c['ns'] / row['halfulp fast']['ns'])} times)"
            cells.append(f"{number(c['ns'])} ns{times}, {number(c['max_mixed_u'])} u{lost}")
        lines.append(f"| {row['region']} | {row['function']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main():
    files = [json.loads(pathlib.Path(p).read_text()) for p in sys.argv[1:3]]
    wide = files[0]["instruction_sets"][0].startswith("AVX3")
    tables = [("speed" if wide else "speed without AVX-512", speed(files[0]))] + [("accuracy", accuracy(v)) for v in files[1:]]
    path = pathlib.Path(__file__).parent.parent / "docs" / "bessel.md"
    text = path.read_text()
    for name, table in tables:
        mark = f"<!-- {name}: written by bench/bessel_table.py -->"
        text = re.sub(re.escape(mark) + ".*?<!-- end -->", lambda _: mark + "\n" + table + "\n\n<!-- end -->", text,
                      count=1, flags=re.S)
    path.write_text(text)


main()
