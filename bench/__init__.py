"""How fast the queue is on this machine, beside its peers and beside hand-written loops: `make bench`.

Theory. A *contestant* is somebody who can be measured on one store: coserver, a hand-written loop, a peer. It brings
*scenarios*, each of which measures one or more *rows*, the lines of the report. Those who do the same thing measure the
same row, so a ratio is one row of two contestants in the same run. Runs are the outer loop and contestants alternate
within each group of scenarios, so that slow drift of the machine meets all of them alike.

    rows        what is measured, in which unit, and what coserver aims at
    scenario    contestants and their scenarios, and how much is measured
    runner      the loop over them
    report      medians, ratios and aims of what was measured: pure
    tables      how that is shown in a terminal and in Markdown: pure
    marks       how jobs say when they began, the same for everybody
    ours/, bare, peers/    the contestants

`marks` and what lies in `peers/` beside the catalogue also run in the peers' own virtual environments, where nothing
of ours is installed: they and this file need the standard library alone.
"""
