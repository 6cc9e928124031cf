"""`python -m cli` is `entrepot`."""

from cli.main import main

main()
