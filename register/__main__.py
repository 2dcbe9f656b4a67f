"""The entry point of the program: ``register`` and ``python -m register``."""

import sys


def run() -> None:
    """Import the program and run it. Ctrl-C during the import too is one line and exit code 130."""
    try:
        from register.cli.main import main
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was written\n")
        sys.exit(130)
    main()


if __name__ == "__main__":
    run()
