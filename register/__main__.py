"""``python -m register`` is the same program as ``register``."""

from register.cli.main import main

if __name__ == "__main__":
    main()
