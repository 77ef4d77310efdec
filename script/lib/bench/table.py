# SPDX-License-Identifier: Apache-2.0
"""Results: rows of a figure, the best peer's, the bar and whether it was met; as text and as a plot."""
import os
import statistics

from rig.process import run


class Row:
    """One line of the table. met: True, False, or None where there is no bar to meet."""

    def __init__(self, link, what, figure, unit, peers=(), bar="", met=None, plot=None):
        self.link, self.what, self.figure, self.unit = link, what, figure, unit
        self.peers = sorted(map(tuple, peers), key=lambda p: p[1])  # (name, figure), in the same unit
        self.bar, self.met, self.plot = bar, met, plot

    def verdict(self):
        return {True: "met", False: "MISSED", None: ""}[self.met]

    def best(self):
        """The best peer: the largest rate, else the smallest time."""
        if not self.peers:
            return ""
        name, figure = self.peers[-1 if self.unit in ("MB/s", "reads/s") else 0]
        return f"{show(figure)} {name}"


def show(figure):
    if isinstance(figure, str):
        return figure
    if abs(figure) >= 100:
        return f"{figure:.0f}"
    return f"{figure:.1f}" if abs(figure) >= 10 else f"{figure:.2f}"


def median(values):
    return statistics.median(values)


def text_line(row):
    return (f"  {row.link:<6} {row.what:<52} {show(row.figure):>8} {row.unit:<8}"
            f" {row.best():<34} {row.bar:<30} {row.verdict()}")


def heading(record):
    return (f"{record['name']}: {record['date']}, hither {record['commit'] or 'outside of git'},"
            f" {record['machine']}, line: {record['line']}"
            + (f"; {record['remark']}" if record.get("remark") else ""))


def markdown(sets, facts, notes, plot, pictures=()):
    rows = [row for record in sets for row in record["rows"]]
    met = sum(row.met is True for row in rows)
    missed = sum(row.met is False for row in rows)
    out = ["# Benchmarks", "",
           "Written by `script/bench`; do not edit. hither and its peers ran one after another in the same"
           " run, on the same emulated line, from the same server. Look at ratios, not at absolutes.", "",
           f"**{met} bars met, {missed} missed.**", ""]
    if plot:
        out += [f"![hither and its peers]({plot})", ""]
    out += [f"![{picture}]({picture})" for picture in pictures] + ([""] if pictures else [])
    out += ["| link | what | hither | unit | best peer | bar | |",
            "| --- | --- | ---: | --- | --- | --- | --- |"]
    for row in rows:
        out.append(f"| {row.link} | {row.what} | {show(row.figure)} | {row.unit} | {row.best()} |"
                   f" {row.bar} | {row.verdict()} |")
    peers = [row for row in rows if len(row.peers) > 1]
    if peers:
        out += ["", "## Every peer", "", "| link | what | hither | peers |", "| --- | --- | ---: | --- |"]
        for row in peers:
            each = "; ".join(f"{name} {show(figure)}" for name, figure in row.peers)
            out.append(f"| {row.link} | {row.what} ({row.unit}) | {show(row.figure)} | {each} |")
    out += ["", "## Method", "", *[f"- {line}" for line in notes], "", "## Measured", "",
            *[f"- {heading(record)}" for record in sets], *[f"- {fact}" for fact in facts], ""]
    return "\n".join(out)


GNUPLOT = """
set terminal svg size 900,{height} font 'sans,11'
set output '{out}'
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set key outside top center horizontal
set grid ytics
set multiplot layout {count},1
{plots}
unset multiplot
"""


def plot(rows, folder, out):
    """A picture of the rows that asked for one, by gnuplot. False: gnuplot is not there."""
    groups = {}
    for row in rows:
        if row.plot:
            groups.setdefault(row.plot, []).append(row)
    if not groups or not any(os.access(os.path.join(p, "gnuplot"), os.X_OK)
                             for p in os.environ["PATH"].split(":")):
        return False
    plots = []
    for number, (title, members) in enumerate(groups.items()):
        names = ["hither"] + sorted({name for row in members for name, _ in row.peers})
        data = os.path.join(folder, f"plot-{number}")
        with open(data, "w", encoding="utf-8") as text:
            text.write("link " + " ".join(f'"{name}"' for name in names) + "\n")
            for row in members:
                figures = {**dict(row.peers), "hither": row.figure}
                text.write(row.link + " " + " ".join(str(figures.get(n, "?")) for n in names) + "\n")
        logscale = "set logscale y" if len({row.link for row in members}) > 1 else "unset logscale y"
        plots.append(f"set title '{title}'\n{logscale}\nset datafile missing '?'\nplot for "
                     f"[i=2:{len(names) + 1}] '{data}' using i:xtic(1) title columnheader(i)")
    script = os.path.join(folder, "plot.gp")
    with open(script, "w", encoding="utf-8") as text:
        text.write(GNUPLOT.format(height=320 * len(groups), count=len(groups), out=out,
                                  plots="\n".join(plots)))
    run(["gnuplot", script])
    return True
