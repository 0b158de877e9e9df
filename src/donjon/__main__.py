"""`python -m donjon` is the command `donjon`."""

from donjon.cli.main import entry

if __name__ == "__main__":
    entry()
