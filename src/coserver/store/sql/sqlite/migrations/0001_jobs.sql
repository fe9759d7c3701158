-- The tables of the job queue. STRICT makes SQLite refuse what PostgreSQL refuses by type.

CREATE TABLE coserver_meta (
    key   TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- The living jobs. `INSERT INTO coserver_job (task, args) VALUES (…)` is all that a producer needs.
-- `args` NULL means: in coserver_blob. `seq` is the place in line; it comes from the counter of the ids, which the
-- single writer may raise (an id is its own first place in line), so ids may have gaps but never come twice.
CREATE TABLE coserver_job (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    state       INTEGER NOT NULL DEFAULT 0,
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
    claimed_at  INTEGER,
    queue       TEXT,
    task        TEXT NOT NULL,
    args        TEXT DEFAULT '[]' CHECK (args IS NULL OR json_valid(args)),
    options     TEXT,
    error       TEXT
) STRICT;
INSERT INTO sqlite_sequence (name, seq) VALUES ('coserver_job', 0);

-- One partial index per live state. A job that worker after worker died on stands apart, because it is claimed alone.
CREATE INDEX coserver_job_new       ON coserver_job (task)                       WHERE state = 0;
CREATE INDEX coserver_job_scheduled ON coserver_job (run_at)                     WHERE state = 4;
CREATE INDEX coserver_job_ready     ON coserver_job (queue, task, priority, seq) WHERE state = 5 AND crashes = 0;
CREATE INDEX coserver_job_suspect   ON coserver_job (queue, task, priority, seq) WHERE state = 5 AND crashes > 0;
CREATE INDEX coserver_job_running   ON coserver_job (worker)                     WHERE state = 6;

-- The finished jobs, under the ids they had. `args` and `result` NULL: none, or in coserver_blob.
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
    error       TEXT
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
CREATE TABLE coserver_worker (
    id          INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    state       INTEGER NOT NULL DEFAULT 0,
    parked      INTEGER NOT NULL DEFAULT 0,
    lease_until INTEGER NOT NULL,
    boot        TEXT NOT NULL,
    process     TEXT NOT NULL,
    host        TEXT NOT NULL,
    pid         INTEGER NOT NULL,
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
    name TEXT NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

-- What the workers say of their tasks: routing reads it.
CREATE TABLE coserver_task (
    name        TEXT NOT NULL PRIMARY KEY,
    queue       TEXT NOT NULL,
    max_crashes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- How many jobs ended, one row per (worker, queue, state), so that workers never wait for each other; worker 0 is
-- everybody who left.
CREATE TABLE coserver_count (
    worker INTEGER NOT NULL,
    queue  TEXT NOT NULL,
    state  INTEGER NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (worker, queue, state)
) STRICT, WITHOUT ROWID;
