"""The peers: other job queues, each at its best documented settings, each in a virtual environment of its own.

    catalogue     who they are, on which store, in which exact versions: the one place to change them
    environments  their virtual environments, made when they are needed
    redis_server  a Redis server, where there is one
    contestant    what is measured of them: this side
    driver        the same, their side: runs in the peer's virtual environment
    the others    one adapter for each peer, which runs there as well

An adapter is a module with two functions and a class, any of which may be coroutine functions where the peer is
asynchronous, and the tasks `noop` and `sleep2`, which `bench.marks` lets say when they began and ended:

    prepare()                           make an empty store
    class Producer: one(task, number)   submit one job; also `many(task, numbers)`, `open()` and `close()` if needed
    workers(processes, at_once)         the commands that together are one worker of so many processes; `at_once`:
                                        jobs that run at the same time, None for what suits no-op jobs best

`BENCH_STORE` holds the URL of the store, and `BENCH_SETTINGS` is `best` for the fastest settings that the peer
documents, or `defaults`.
"""
