"""The command line. Of `swarmd` it knows model, wire, transport and errors."""
