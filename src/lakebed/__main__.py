"""The command line: `lakebed …` and `python -m lakebed …`."""

from lakebed.cli.app import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
