"""Commands for whoever runs the flows; each is a module, `python -m dataflows.commands.NAME`."""
