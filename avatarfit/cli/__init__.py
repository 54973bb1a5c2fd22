"""The command line. Commands import what they run only when they run, so that `--help` is instant."""
