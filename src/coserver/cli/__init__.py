"""The command line: one file for each family of verbs, all thin faces over the rooms below."""
