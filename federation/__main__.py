"""`python -m federation`: the command line."""

from federation.cli import main

if __name__ == "__main__":
    main()
