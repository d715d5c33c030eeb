"""The `statebridge` command. A command imports what it needs when it runs: --help is quick."""

from __future__ import annotations


def main() -> None:
    """Run the command line of this process; see `statebridge.commands.app.main`."""
    from statebridge.commands.app import main as run_command_line

    run_command_line()
