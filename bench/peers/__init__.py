"""The programs that Donjon is measured against, in Python and for node; each runs on its own."""
