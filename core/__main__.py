"""``python -m dlaconv`` is ``dlaconv``."""

from dlaconv.cli import main

if __name__ == "__main__":
    main()
