#!/usr/bin/env python3
"""bench/vmf_table.py FILE.json ...: writes the tables of docs/vmf.md.

Each FILE.json is one of these, told apart by what is in it; regions without a file stay as they are:
what `halfulp validate vmf --json` prints (accuracy), what bench_vmf prints (speed), fashion.json of
scripts/fashion (fashion, mixtures). bench/peers/vmf.py writes the region of SciPy.
"""
import json
import pathlib
import re
import sys


def number(value, digits=3):
    if value is None:
        return ""
    return f"{value:.{digits}g}" if abs(value) < 1e5 else f"{value:.{digits - 1}e}".replace("e+0", "e")


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def accuracy(validate):
    rows = []
    for f in validate["result"]["functions"]:
        r = f["regions"][-1]
        rows.append([f"`{f['name'].removeprefix('vmf ')}`", f["metric"].replace("|", "\\|"), str(r["n"]),
                     f"{r['max']:.3f}", f"{r['p99']:.3f}", f"{r['median']:.3f}", f"{r['limit']:g}"])
    checks = "; ".join(f"{c['name']}, {c['violations']} violations in {c['n']}" for c in validate["result"]["checks"])
    return (f"{validate['report']['environment']}\n\n"
            + table(["function", "metric", "points", "largest", "99 %", "median", "budget"], rows)
            + f"\n\nIdentities over random pairs: {checks}.")


def speed(bench):
    names = sorted((k for k in bench["rows"][0] if k != "p"), key=lambda name: name != "halfulp")
    rows = []
    for row in bench["rows"]:
        cells = [row["p"] if isinstance(row["p"], str) else f"{row['p']:g}"]
        for name in names:
            c = row.get(name)
            if c is None:
                cells.append("")
                continue
            lost = f", {number(c['not_finite_percent'])} % not finite" if c["not_finite_percent"] > 0 else ""
            times = "" if name == "halfulp" else f" ({number(c['ns'] / row['halfulp']['ns'])} times)"
            cells.append(f"{number(c['ns'])} ns{times}, {number(c['max_u'])}{lost}")
        rows.append(cells)
    return (f"{bench['compiler']}, {bench['instruction_sets'][0]}, batches of {bench['points']}\n\n"
            + table(["p"] + names, rows))


def fashion(record):
    rows = []
    for s in record["sets"]:
        kappas = [c["kappa"] for c in s["classes"]]
        seconds = sum(c["seconds"] for c in s["classes"])
        rows.append([str(s["p"]), str(s["n"]), f"{number(min(kappas), 5)} to {number(max(kappas), 5)}",
                     f"{seconds:.3f}", f"{s['held_out_log_likelihood_per_dimension']:.4f}",
                     f"{100 * s['held_out_accuracy']:.1f} %",
                     f"{s['worst_residual_ulp']:.2f}" if "worst_residual_ulp" in s else "not checked"])
    return table(["p", "images", "kappa", "seconds for 10 fits", "held out", "classes right", "worst, ulp"], rows)


def mixtures(record):
    names = {"mixture": "EM", "kmeans": "spherical k-means"}
    rows = []
    for m in record["mixtures"]:
        verb = m["name"].split("-")[0]
        rows.append([names[verb] + (", hard" if m["name"].endswith("hard") else ""), str(m["components"]),
                     str(m["n"]), f"{m['iterations']} ({m['status'].replace('_', ' ')})", f"{m['seconds']:.1f}",
                     f"{m['ari']:.3f}", f"{m['nmi']:.3f}", number(m["bic"], 7)])
    return table(["method", "components", "images", "iterations", "seconds in all", "ARI", "NMI", "BIC"], rows)


def regions(record):
    if "sets" in record:
        return {"fashion": fashion(record)} | ({"mixtures": mixtures(record)} if record["mixtures"] else {})
    if record.get("command") == "validate":
        return {"accuracy": accuracy(record)}
    if "instruction_sets" in record:
        return {"speed": speed(record)}
    sys.exit("bench/vmf_table.py: a file that is none of these")


def main():
    path = pathlib.Path(__file__).parent.parent / "docs" / "vmf.md"
    text = path.read_text()
    for file in sys.argv[1:]:
        for name, written in regions(json.loads(pathlib.Path(file).read_text())).items():
            mark = f"<!-- {name}: written by bench/vmf_table.py -->"
            if mark not in text:
                sys.exit(f"bench/vmf_table.py: docs/vmf.md has no region {name}")
            text = re.sub(re.escape(mark) + ".*?<!-- end -->",
                          lambda _: f"{mark}\n\n{written}\n\n<!-- end -->", text, count=1, flags=re.S)
    path.write_text(text)


main()
