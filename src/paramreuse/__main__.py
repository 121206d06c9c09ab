"""``python -m paramreuse``: the same as the command ``paramreuse``."""

from paramreuse.cli import main

if __name__ == "__main__":
    main()
