"""The command line. Of `swarmd` it knows model, wire, transport's blocking client and errors.

`command_line` runs one and tells how it ended, `app` finds the command, `invocation` is what a command is given,
`client` speaks to the daemon, `resolve` turns what the user typed into objects, `render` prints them. Commands are
imported when they are called: starting is most of what a command line does.
"""
