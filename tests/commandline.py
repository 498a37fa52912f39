"""The command line in the process of a test."""

from typer.testing import CliRunner, Result

from tamrl.cli.app import app


def call(*arguments: object) -> Result:
    """Run the command line in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def passed(*arguments: object) -> Result:
    """Run it without an error."""
    done = call(*arguments)
    assert done.exit_code == 0, done.output
    return done
