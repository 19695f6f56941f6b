"""The folder of a run, its files, and reading many of them. No torch here."""
