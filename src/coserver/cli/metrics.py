"""`coserver metrics`."""

from __future__ import annotations

import click

from coserver.cli.context import Surroundings, pass_surroundings


@click.command()
@pass_surroundings
def metrics(surroundings: Surroundings) -> None:
    """Print figures of the site in the text format of Prometheus.

    They come from the node, which has to be up, and are meant for the textfile collector of node_exporter, or anything
    else that reads this format. The reference of metrics says what they mean.
    """
    click.echo(surroundings.node.text("/metrics"), nl=False)
