"""hyperrun: an experiment runner for hypernetworks. `hyperrun --help` is the way in."""

__version__ = "0.1.0"
