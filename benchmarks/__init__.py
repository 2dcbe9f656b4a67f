"""Benchmarks; each is a program: ``python -m benchmarks.NAME --help``.

The environment variables that the command-line program sets are set here too, before any library reads them.
"""

import os

from register.cli.startup import ENVIRONMENT

os.environ.update(ENVIRONMENT | os.environ)
