"""Where the program begins: ``register``, and ``python -m register``."""

import sys


def run() -> None:
    """Load the program and run it. One that is interrupted while it is loaded ends as one that is interrupted later does."""
    try:
        from register.cli.main import main
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was begun\n")
        sys.exit(130)
    main()


if __name__ == "__main__":
    run()
