"""`python -m statebridge`: the `statebridge` command."""

from statebridge.commands import main

if __name__ == "__main__":
    main()
