"""`python -m tamrl` is the command line `tamrl`."""

from tamrl.cli import main

main()
