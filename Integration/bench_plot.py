"""Draws the figures of one or more runs of the bench; called by the script `bench`."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plot  # noqa: E402

# Cases of the bench with one of their figures, and what the plot calls them; less is better in all of them.
BARS = {
    **{(f"{protocol}, {clients} clients", "us"): f"{clients:,} clients, {protocol}"
       for clients in (16, 400, 2_000) for protocol in ("simple", "extended", "prepared")},
    ("TLS to clients, simple, 400 clients", "us"): "400 clients, simple, TLS",
    **{(f"logins, SCRAM, {at_once} at a time", "us"): f"login by SCRAM, {at_once} at a time" for at_once in (2, 16)},
    ("bytes, result", "s_per_gb"): "large results",
}
CONTESTANTS = {"Martlet epoll": "#7aa6c2", "Martlet io_uring": "#1f5f8b", "Martlet io_uring, routed": "#c2703d"}


def ratios(runs: list[dict]) -> dict[str, dict[str, float]]:
    """The medians' ratios to the yardstick's, by what the plot calls a case and by contestant; a later run's count."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        for case in run["cases"]:
            for (name, figure), title in BARS.items():
                if case["case"] != name:
                    continue
                medians = {result["contestant"]: statistics.median(each[figure] for each in result["runs"])
                           for result in case["results"]}
                base = medians.get(run["yardstick"])
                if base:
                    found[title] = {who: value / base for who, value in medians.items() if who in CONTESTANTS}
    return {title: found[title] for title in BARS.values() if title in found}


def draw(runs: list[dict], target: Path) -> None:
    cases = ratios(runs)
    if not cases:
        sys.exit("none of the cases that are drawn is in these files; see BARS in bench_plot.py")
    plot.rcParams |= {"font.size": 9, "svg.hashsalt": "martlet"}
    figure, axes = plot.subplots(figsize=(7.5, 0.42 * len(cases) + 1), layout="constrained")
    height = 0.8 / len(CONTESTANTS)
    for place, bars in enumerate(cases.values()):
        drawn = [who for who in CONTESTANTS if who in bars]
        for number, who in enumerate(drawn):
            offset = (number - (len(drawn) - 1) / 2) * height
            axes.barh(place + offset, bars[who], height, color=CONTESTANTS[who])
            axes.text(bars[who] + 0.01, place + offset, f"{bars[who]:.2f}", va="center", fontsize=7)
    for who, colour in CONTESTANTS.items():
        if any(who in bars for bars in cases.values()):
            axes.barh(0, 0, color=colour, label=who)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(cases)), list(cases))
    axes.invert_yaxis()
    axes.set_xlim(0, max(1.2, 1.1 * max(value for bars in cases.values() for value in bars.values())))
    axes.set_xlabel(f"CPU time of the pooler, {runs[0]['yardstick']} = 1 (less is better)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    figure.savefig(target, metadata={"Date": None})
    print(f"drawn: {target}")


if __name__ == "__main__":
    draw([json.loads(Path(path).read_text()) for path in sys.argv[2:]], Path(sys.argv[1]))
