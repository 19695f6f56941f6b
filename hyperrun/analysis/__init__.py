"""Comparison of runs: parameters against accuracy, as tables, pictures and pages.

runs = read_runs(["outputs"])
print_comparison(runs, rich.console.Console())
"""

from hyperrun.analysis.groups import Comparison, Group, compare
from hyperrun.analysis.runs import Run, Runs, read_runs
from hyperrun.analysis.table import print_comparison

__all__ = ["Comparison", "Group", "Run", "Runs", "compare", "print_comparison", "read_runs"]
