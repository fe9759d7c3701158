"""How fast the queue is on this machine, beside a hand-written loop on the same database: `make bench`."""
