"""`python -m tamrl` is the command line `tamrl`."""

from tamrl.cli.app import main

main()
