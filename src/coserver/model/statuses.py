"""What processes of our own say by their exit status; see `model.service`, which hears it."""

RECYCLED = 75
"""Exit status of a process of our own that wants to be replaced by a fresh one."""
UNFIT = 78
"""Exit status of a process of our own that cannot work as things are, however often it is started."""
