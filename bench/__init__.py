"""Measures Donjon beside its peers on this machine, in one run: `make bench`, or `python -m bench --help`.

`suites/` says what is measured, one module a suite; `native/` and `peers/` are the programs that it is measured
against; `results` turns samples into ratios and verdicts, `report` shows them. `README.md` explains each row.
"""
