"""The command line, `tamrl --help`."""
