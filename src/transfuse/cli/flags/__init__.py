"""What the options of the command line are called, take and mean. None: not given, so a configuration file decides."""
