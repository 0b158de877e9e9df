"""The command line: parses words, prints results, holds no logic.

`table.py` lists every command as data; `parse.py` reads words by it, `help.py` and `completion.py` print it, `main.py`
calls what it names. `tui.py` is the only module that writes to a terminal. The rest is one module per command group.
"""
