"""The `entrepot` command: finds the subcommand, and imports only that one, so that help stays quick."""

import importlib
import sys
from typing import Any

import click

from cli.exits import Failed

COMMANDS = {
    "up": ("cli.up", "Start the whole suite on this machine, until Ctrl-C."),
    "down": ("cli.down", "Stop the suite that runs on a data folder."),
    "status": ("cli.status", "What runs, and whether it is ready."),
    "env": ("cli.env", "Settings for gcloud, container clients or the shell, to be eval-ed."),
    "doctor": ("cli.doctor", "What is missing on this machine, and the command that installs it."),
    "login": ("cli.login", "Act as the account of a key file from now on."),
    "logout": ("cli.login", "Forget the key file."),
    "token": ("cli.token", "Print an access token."),
    "configure-docker": ("cli.docker.configure", "Let container clients fetch short-lived tokens by themselves."),
    "projects": ("cli.projects", "Projects."),
    "repositories": ("cli.repositories", "Repositories of artifacts."),
    "images": ("cli.images", "Images of a repository."),
    "copy": ("cli.copy", "Copy an image between a registry, an OCI layout and archives."),
    "migrate": ("cli.migrate", "Copy a whole registry, or a part of one, into repositories here."),
    "advisories": ("cli.advisories", "What the scanner knows about vulnerabilities."),
    "scan": ("cli.scan", "What the scanner found."),
    "admit": ("cli.admit", "Ask whether a workload would be let in."),
    "audit": ("cli.audit", "Who did what, where and when."),
    "cleanup": ("cli.cleanup", "What cleanup policies would delete."),
    "builds": ("cli.builds", "Builds of steps in containers."),
    "events": ("cli.events", "What the services say to each other."),
    "rebuild-state": ("cli.rebuild_state", "Bring back what the state server has lost."),
    "dead": ("cli.dead", "Events that could not be handled."),
}


class Lazy(click.Group):
    """A group that knows its commands' names and one line about each without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which they are listed."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; its object has the command's name."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name.replace("-", "_"))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help text, from the table alone."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def entrepot() -> None:
    """Entrepot: a supply chain for software on your own machines.

    Exit codes: 0 done, 1 error, 2 wrong usage, 3 denied by a policy, 4 not authenticated or not allowed, 5 not found.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    try:
        code: Any = entrepot.main(arguments, prog_name="entrepot", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        sys.exit(leaving.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except Failed as failed:
        click.echo(f"entrepot: {failed}", err=True)
        sys.exit(failed.code)
    except BrokenPipeError:
        # Whoever read our output has gone; what is still buffered must not raise again at exit.
        sys.stdout = None  # pyright: ignore[reportAttributeAccessIssue]
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
