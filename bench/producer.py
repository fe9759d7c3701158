"""One of many processes that submit at the same time: `python -m bench.producer URL COUNT`.

It says "ready", begins when a line comes in, and then prints how long each submit took, in ms, as one line of JSON.
"""

from __future__ import annotations

import json
import sys
import time

from bench.jobs import noop
from coserver import Client, using


def main(url: str, count: int) -> None:
    """Submit when told."""
    with Client(url) as client, using(client):
        noop.submit(0)
        print("ready", flush=True)
        sys.stdin.readline()
        times = []
        for number in range(count):
            begun = time.perf_counter()
            noop.submit(number)
            times.append((time.perf_counter() - begun) * 1000)
    print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
