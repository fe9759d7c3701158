-- The tables of the job queue. STRICT makes SQLite refuse what PostgreSQL refuses by type.

CREATE TABLE coserver_meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The living jobs. `INSERT INTO coserver_job (task, args) VALUES (…)` is all that a producer needs.
-- `waits`: how many jobs it waits for. `blocked_on`: the limit whose slots it waits for, while limited.
-- `begin_by` below zero, of a held or waiting job: so many µs after it will be due.
-- `args` NULL means: in coserver_blob. `seq` is the place in line; it comes from the counter of the ids, which the
-- single writer may raise (an id is its own first place in line), so ids may have gaps but never come twice.
CREATE TABLE coserver_job (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    state       INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 6),
    priority    INTEGER NOT NULL DEFAULT 1,
    seq         INTEGER,
    worker      INTEGER,
    claim       INTEGER NOT NULL DEFAULT 0,
    attempt     INTEGER NOT NULL DEFAULT 0,
    crashes     INTEGER NOT NULL DEFAULT 0,
    max_crashes INTEGER,
    flags       INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL
                DEFAULT (CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000),
    run_at      INTEGER,
    begin_by    INTEGER,
    claimed_at  INTEGER,
    waits       INTEGER NOT NULL DEFAULT 0,
    queue       TEXT,
    task        TEXT NOT NULL,
    args        TEXT DEFAULT '[]' CHECK (args IS NULL OR json_valid(args)),
    options     TEXT,
    error       TEXT,
    unique_key  TEXT,
    limit_key   TEXT,
    blocked_on  TEXT
) STRICT;
INSERT INTO sqlite_sequence (name, seq) VALUES ('coserver_job', 0);

-- One partial index per live state. A job that worker after worker died on stands apart, because it is claimed alone.
CREATE INDEX coserver_job_new       ON coserver_job (task, priority, id)         WHERE state = 0;
CREATE INDEX coserver_job_scheduled ON coserver_job (run_at)                     WHERE state = 4;
CREATE INDEX coserver_job_ready     ON coserver_job (queue, task, priority, seq) WHERE state = 5 AND crashes = 0;
CREATE INDEX coserver_job_suspect   ON coserver_job (queue, task, priority, seq) WHERE state = 5 AND crashes > 0;
CREATE INDEX coserver_job_running   ON coserver_job (worker)                     WHERE state = 6;
CREATE INDEX coserver_job_held      ON coserver_job (id)                          WHERE state = 1;
CREATE INDEX coserver_job_waiting   ON coserver_job (id)                          WHERE state = 2;
CREATE INDEX coserver_job_limited   ON coserver_job (blocked_on, priority, seq)   WHERE state = 3;
CREATE INDEX coserver_job_resting   ON coserver_job (queue, state)                WHERE state BETWEEN 1 AND 4;
CREATE INDEX coserver_job_begin_by  ON coserver_job (begin_by)
    WHERE begin_by IS NOT NULL AND state < 6 AND attempt = 0 AND crashes = 0;
CREATE UNIQUE INDEX coserver_job_unique ON coserver_job (unique_key) WHERE unique_key IS NOT NULL;

-- The finished jobs, under the ids they had. `args` and `result` NULL: none, or in coserver_blob.
-- `flags`: what a retry has to know of the job that was, as far as its end has not settled it.
CREATE TABLE coserver_done (
    id          INTEGER NOT NULL PRIMARY KEY,
    state       INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    worker      INTEGER,
    claim       INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    crashes     INTEGER NOT NULL,
    max_crashes INTEGER,
    created_at  INTEGER NOT NULL,
    run_at      INTEGER,
    started_at  INTEGER,
    finished_at INTEGER NOT NULL,
    queue       TEXT,
    task        TEXT NOT NULL,
    args        TEXT,
    options     TEXT,
    result      TEXT,
    error       TEXT,
    unique_key  TEXT,
    limit_key   TEXT,
    flags       INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX coserver_done_finished     ON coserver_done (state, finished_at);
CREATE INDEX coserver_done_unsuccessful ON coserver_done (id) WHERE state > 10;

-- Large arguments (kind 0) and results (kind 1), so that no rewritten row carries them.
CREATE TABLE coserver_blob (
    job  INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY (job, kind)
) STRICT;

-- One row per incarnation of a worker. `state`: 0 live, 1 dead and perhaps still holding jobs, 2 gone. The lease ends
-- at `lease_until` on the clock of the boot `boot`. `started`: JSON array of the ids that a dead one had begun.
-- `steady_since`: since when its lease of `lease` µs has been renewed without a gap, so that it bears witness that others
-- could have renewed theirs.
CREATE TABLE coserver_worker (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    state       INTEGER NOT NULL DEFAULT 0,
    parked      INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL,
    lease       INTEGER NOT NULL,
    steady_since INTEGER NOT NULL,
    boot        TEXT NOT NULL,
    process     TEXT NOT NULL,
    host        TEXT NOT NULL,
    pid         INTEGER NOT NULL,
    protocol    INTEGER NOT NULL DEFAULT 1,
    token       TEXT,
    wake        TEXT,
    queues      TEXT NOT NULL,
    tasks       TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    ended_at    INTEGER,
    started     TEXT,
    note        TEXT
) STRICT;
CREATE INDEX coserver_worker_present ON coserver_worker (state, boot, lease_until) WHERE state < 2;
CREATE INDEX coserver_worker_parked  ON coserver_worker (id)                       WHERE parked = 1;
CREATE INDEX coserver_worker_token   ON coserver_worker (token)                    WHERE state < 2;
CREATE INDEX coserver_worker_ended   ON coserver_worker (ended_at)                 WHERE state = 2;

CREATE TABLE coserver_queue (
    name      TEXT NOT NULL PRIMARY KEY,
    paused_at INTEGER,
    paused_by TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX coserver_queue_paused ON coserver_queue (name) WHERE paused_at IS NOT NULL;

-- What the workers say of their tasks: routing reads it.
CREATE TABLE coserver_task (
    name        TEXT NOT NULL PRIMARY KEY,
    queue       TEXT NOT NULL,
    max_crashes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How many jobs ended, one row per (worker, queue, state), so that workers never wait for each other; worker 0 is
-- everybody who left. A state below zero counts how many that had ended so were put back by a retry.
CREATE TABLE coserver_count (
    worker INTEGER NOT NULL,
    queue  TEXT NOT NULL,
    state  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (worker, queue, state)
) STRICT, WITHOUT ROWID;

-- Which jobs wait for which: `place` orders a child's parents, `on_end` is the end that it asks for. When the parent
-- ends, its state and what it left are kept here, so that the child does not depend on the parent's retention.
CREATE TABLE coserver_dep (
    child  INTEGER NOT NULL,
    place  INTEGER NOT NULL,
    parent INTEGER NOT NULL,
    on_end INTEGER NOT NULL,
    state  INTEGER,
    result TEXT,
    error  TEXT,
    PRIMARY KEY (child, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX coserver_dep_parent ON coserver_dep (parent) WHERE state IS NULL;
CREATE INDEX coserver_dep_of     ON coserver_dep (parent);

-- Words to find jobs by.
CREATE TABLE coserver_tag (
    tag TEXT NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (tag, job)
) STRICT, WITHOUT ROWID;
CREATE INDEX coserver_tag_job ON coserver_tag (job);

-- How far jobs say they are.
CREATE TABLE coserver_progress (
    job      INTEGER NOT NULL PRIMARY KEY,
    claim    INTEGER NOT NULL,
    fraction REAL,
    note     TEXT NOT NULL,
    at       INTEGER NOT NULL
) STRICT;

-- Declared limits: `running` jobs at once, `starts` in any `period` µs. `closed`: admits nobody yet, because what runs is
-- still being counted.
CREATE TABLE coserver_limit (
    name    TEXT NOT NULL PRIMARY KEY,
    running INTEGER,
    starts  INTEGER,
    period  INTEGER,
    closed  INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- Who holds a slot of which limit key. `job` NULL: it began at `started_at` and is over, but counts for the rate.
CREATE TABLE coserver_slot (
    id         INTEGER NOT NULL PRIMARY KEY,
    key        TEXT NOT NULL,
    job        INTEGER,
    started_at INTEGER
) STRICT;
CREATE UNIQUE INDEX coserver_slot_held ON coserver_slot (job, key) WHERE job IS NOT NULL;
CREATE INDEX coserver_slot_key ON coserver_slot (key, started_at);

-- Limit keys that somebody has to look at, and when: a slot came free, a job came to wait, a rate lets the next one in.
CREATE TABLE coserver_gate (
    id  INTEGER NOT NULL PRIMARY KEY,
    key TEXT NOT NULL,
    at  INTEGER NOT NULL
) STRICT;
CREATE INDEX coserver_gate_at  ON coserver_gate (at);
CREATE INDEX coserver_gate_key ON coserver_gate (key);
