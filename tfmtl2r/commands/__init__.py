"""Commands of the command line: one file each, found by name; ``main(arguments)`` runs it."""
