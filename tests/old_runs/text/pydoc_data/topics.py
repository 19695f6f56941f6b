"""Stands in for Python's own reference text (data=pydocs), whose wording differs between Python versions."""

from pathlib import Path

topics = {"hyperrun": Path(__file__).with_suffix(".txt").read_text(encoding="utf-8")}
