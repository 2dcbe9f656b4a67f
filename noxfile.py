"""Tasks of a contributor: ``nox -s lint types test docs bench``; ``nox -l`` lists them.

Every session installs the tested versions of ``constraints.txt``. ``test_lowest`` installs the lowest
versions that ``pyproject.toml`` allows, which needs uv.
"""

import nox

nox.options.sessions = ["lint", "types", "test"]
PYTHONS = ["3.11", "3.12", "3.13"]


def install(session: nox.Session, extras: str) -> None:
    """Install the package in place with some of its extras, at the tested versions."""
    session.install("-c", "constraints.txt", "-e", f".[{extras}]")


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, and the project's own files against their published schemas."""
    session.install("-c", "constraints.txt", "ruff", "check-jsonschema")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("bash", ".ci/schemas", external=True)


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy in strict mode."""
    install(session, "dev")
    session.run("mypy")


@nox.session(python=PYTHONS)
def test(session: nox.Session) -> None:
    """Run the tests and print the coverage; options of pytest go after ``--``."""
    install(session, "test")
    session.run("python", "-m", "pytest", "-n", "auto", "--cov", *session.posargs)


@nox.session(python="3.11", venv_backend="uv")
def test_lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions of direct dependencies; warnings of old versions are no
    errors here."""
    session.install("--resolution", "lowest-direct", "-e", ".[test]")
    session.run("python", "-m", "pytest", "-n", "auto", "-W", "default", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a broken link or an unknown name is an error."""
    install(session, "docs")
    session.run("python", "-m", "mkdocs", "build", "--strict", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmarks that need no other files and render ``benchmarks/current.md``."""
    install(session, "bench")
    for command in (
        ["benchmarks.accuracy", "--synthetic", "--seeds", "1", "--save", "accuracy-synthetic"],
        ["benchmarks.startup", "--save", "startup"],
        ["benchmarks.current"],
    ):
        session.run("python", "-m", *command)
