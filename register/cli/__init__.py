"""The command line: options become settings, one function is called, its result is printed."""
