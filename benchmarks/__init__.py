"""What can be measured, each a program: ``python -m benchmarks.NAME``. Libraries are told what the program tells them, before they are loaded."""

import os

from register.cli.startup import ENVIRONMENT

os.environ.update(ENVIRONMENT | os.environ)
