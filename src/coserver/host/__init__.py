"""This machine: the keeper and its output process, sockets, signals, users, cgroups, /proc."""
