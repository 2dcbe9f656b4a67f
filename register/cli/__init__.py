"""The command line: options become settings, one call is made, and its result is shown. The only place that prints."""
