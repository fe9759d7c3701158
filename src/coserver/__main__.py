"""`python -m coserver`: the command line."""

from coserver.cli.main import main

main()
