"""Comparison of runs: parameters against accuracy, as tables, pictures and pages.

runs = read_runs(["outputs"])
print_comparison(runs, rich.console.Console())
"""

from hyperrun.compare.groups import Comparison, Group, compare
from hyperrun.compare.table import print_comparison
from hyperrun.runs.reading import Run, Runs, read_runs

__all__ = ["Comparison", "Group", "Run", "Runs", "compare", "print_comparison", "read_runs"]
