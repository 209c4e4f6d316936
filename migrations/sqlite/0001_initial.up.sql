-- The whole logical schema of the first version. Tables that no code touches yet are here so that nothing is rebuilt later.
--
-- Conventions, the same on both engines: times are milliseconds since 1970 on the `clock` view, ids are UUID texts, enumerations are texts
-- under a CHECK, JSON is text that the database never looks into, flags are TRUE or FALSE. Every row carries its fleet_id.
-- An `owner_uid` that is NULL marks a row that came through the API (origin Api); those of a declared resource (origin Resource) have one.

-- The only clock that decides anything. Tests replace this view by one over a row that they move by hand.
-- (unixepoch('subsec') would be shorter, but is NULL before SQLite 3.42.)
CREATE VIEW clock AS SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) AS now_ms;

-- Written by the migration runner, in the transaction of the migration itself. It stands before any fleet, so it carries none.
CREATE TABLE schema_info (
    only_row   INTEGER PRIMARY KEY CHECK (only_row = 1),
    version    INTEGER NOT NULL,
    min_reader INTEGER NOT NULL,
    min_writer INTEGER NOT NULL,
    applied_at INTEGER NOT NULL
) STRICT;

-- The claim. The key-check value is sealed with the fleet's encryption key: a wrong or lost key is found before it does harm.
CREATE TABLE fleets (
    id         TEXT    NOT NULL PRIMARY KEY,
    only_row   INTEGER NOT NULL UNIQUE DEFAULT 1 CHECK (only_row = 1),
    cluster    TEXT    NOT NULL,
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    key_id     TEXT    NOT NULL,
    key_check  BLOB    NOT NULL,
    claimed_at INTEGER NOT NULL
) STRICT;

-- ---------------------------------------------------------------------------------------------------------------- the change feed

CREATE TABLE feed_head (
    fleet_id TEXT    NOT NULL PRIMARY KEY REFERENCES fleets (id),
    version  INTEGER NOT NULL DEFAULT 0 CHECK (version >= 0),
    epoch    INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0)
) STRICT;

CREATE TABLE changes (
    fleet_id     TEXT    NOT NULL REFERENCES fleets (id),
    version      INTEGER NOT NULL,
    subject_kind TEXT    NOT NULL CHECK (subject_kind IN ('Fleet', 'Project', 'Token')),
    subject_id   TEXT    NOT NULL DEFAULT '',
    PRIMARY KEY (fleet_id, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE replicas (
    fleet_id       TEXT    NOT NULL REFERENCES fleets (id),
    holder         TEXT    NOT NULL,
    acked_version  INTEGER NOT NULL,
    seen_at        INTEGER NOT NULL,
    stale_after_ms INTEGER NOT NULL,
    PRIMARY KEY (fleet_id, holder)
) STRICT, WITHOUT ROWID;

-- ------------------------------------------------------------------------------------------------------- providers, models, routes

CREATE TABLE providers (
    fleet_id   TEXT    NOT NULL REFERENCES fleets (id),
    name       TEXT    NOT NULL,
    origin     TEXT    NOT NULL CHECK (origin IN ('Api', 'Resource')),
    api        TEXT    NOT NULL CHECK (api IN ('OpenAI', 'Anthropic', 'Gemini', 'Custom', 'Echo')),
    base_url   TEXT,
    auth       TEXT    NOT NULL CHECK (auth IN ('Bearer', 'Header', 'None')),
    settings   TEXT    NOT NULL DEFAULT '{}',
    version    INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (fleet_id, name)
) STRICT, WITHOUT ROWID;

-- Prices are micro-cents per million LLM tokens.
CREATE TABLE models (
    fleet_id         TEXT    NOT NULL REFERENCES fleets (id),
    provider         TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    origin           TEXT    NOT NULL CHECK (origin IN ('Api', 'Resource')),
    input_price      INTEGER CHECK (input_price >= 0),
    cached_price     INTEGER CHECK (cached_price >= 0),
    output_price     INTEGER CHECK (output_price >= 0),
    settings         TEXT    NOT NULL DEFAULT '{}',
    version          INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (fleet_id, provider, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE routes (
    fleet_id   TEXT    NOT NULL REFERENCES fleets (id),
    name       TEXT    NOT NULL,
    origin     TEXT    NOT NULL CHECK (origin IN ('Api', 'Resource')),
    spec       TEXT    NOT NULL,
    version    INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (fleet_id, name)
) STRICT, WITHOUT ROWID;

-- ------------------------------------------------------------------------------------------------------- projects and credentials

CREATE TABLE projects (
    fleet_id         TEXT    NOT NULL REFERENCES fleets (id),
    id               TEXT    NOT NULL,
    origin           TEXT    NOT NULL CHECK (origin IN ('Api', 'Resource')),
    owner_cluster    TEXT,
    owner_uid        TEXT,
    namespace        TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('Active', 'Inactive', 'Deleted')),
    policy           TEXT    NOT NULL DEFAULT '{}',
    metadata         TEXT    NOT NULL DEFAULT '{}',
    takeaway_version INTEGER NOT NULL DEFAULT 0,
    version          INTEGER NOT NULL DEFAULT 1,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    PRIMARY KEY (fleet_id, id),
    UNIQUE (fleet_id, owner_cluster, owner_uid),
    CHECK ((origin = 'Resource') = (owner_cluster IS NOT NULL AND owner_uid IS NOT NULL))
) STRICT;

-- `provider` is a name, not a reference: a project may be declared before its provider. A keyless provider has neither key_id nor sealed.
-- `sealed` is a nonce and the AES-256-GCM ciphertext; the credential's id is its associated data, so sealed keys cannot change rows.
CREATE TABLE credentials (
    fleet_id   TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    project_id TEXT    NOT NULL,
    provider   TEXT    NOT NULL,
    weight     INTEGER NOT NULL DEFAULT 1 CHECK (weight >= 0),
    priority   INTEGER NOT NULL DEFAULT 0,
    key_id     TEXT,
    sealed     BLOB,
    version    INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (fleet_id, id),
    UNIQUE (fleet_id, project_id, provider),
    FOREIGN KEY (fleet_id, project_id) REFERENCES projects (fleet_id, id),
    CHECK ((key_id IS NULL) = (sealed IS NULL))
) STRICT;

-- ---------------------------------------------------------------------------------------------------------- tokens and revisions

CREATE TABLE tokens (
    fleet_id         TEXT    NOT NULL,
    id               TEXT    NOT NULL,
    project_id       TEXT    NOT NULL,
    origin           TEXT    NOT NULL CHECK (origin IN ('Api', 'Resource')),
    owner_cluster    TEXT,
    owner_uid        TEXT,
    namespace        TEXT    NOT NULL,
    name             TEXT    NOT NULL,
    alias            TEXT,
    metadata         TEXT    NOT NULL DEFAULT '{}',
    user_id          TEXT,
    expires_at       INTEGER,
    state            TEXT    NOT NULL CHECK (state IN ('Active', 'Suspended', 'Revoked')),
    state_by         TEXT    CHECK (state_by IN ('Spec', 'Deletion', 'Manage')),
    state_at         INTEGER NOT NULL,
    period           INTEGER NOT NULL,
    max_requests     INTEGER CHECK (max_requests >= 0),
    secret_name      TEXT    NOT NULL,
    takeaway_version INTEGER NOT NULL DEFAULT 0,
    version          INTEGER NOT NULL DEFAULT 1,
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    PRIMARY KEY (fleet_id, id),
    UNIQUE (fleet_id, owner_cluster, owner_uid),
    FOREIGN KEY (fleet_id, project_id) REFERENCES projects (fleet_id, id),
    CHECK ((origin = 'Resource') = (owner_cluster IS NOT NULL AND owner_uid IS NOT NULL)),
    CHECK (state <> 'Revoked' OR state_by IS NOT NULL)
) STRICT;

CREATE INDEX tokens_by_project ON tokens (fleet_id, project_id);

-- One row per value that was ever issued; only its SHA-256 is kept. Several Pending rows per token are legal. `epoch` is the leader's that
-- issued it. `ended_early` tells a revision that was ended before its time from one that has run out.
CREATE TABLE token_revisions (
    digest      BLOB    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    fleet_id    TEXT    NOT NULL,
    token_id    TEXT    NOT NULL,
    revision    INTEGER NOT NULL,
    prefix      TEXT    NOT NULL,
    epoch       INTEGER NOT NULL DEFAULT 0,
    state       TEXT    NOT NULL CHECK (state IN ('Pending', 'Active', 'Previous', 'Ended')),
    write_begun INTEGER NOT NULL DEFAULT FALSE CHECK (write_begun IN (FALSE, TRUE)),
    ended_early INTEGER NOT NULL DEFAULT FALSE CHECK (ended_early IN (FALSE, TRUE)),
    issued_at   INTEGER NOT NULL,
    ends_at     INTEGER NOT NULL,
    FOREIGN KEY (fleet_id, token_id) REFERENCES tokens (fleet_id, id)
) STRICT;

CREATE INDEX token_revisions_by_token ON token_revisions (fleet_id, token_id, state, revision);
CREATE UNIQUE INDEX token_revisions_one_active ON token_revisions (fleet_id, token_id) WHERE state = 'Active';

-- ------------------------------------------------------------------------------------------------------------ quotas and leases

-- AUTOINCREMENT: an id never comes back, so a late report of a holder can never hit another quota. A max_units that is NULL sets no limit:
-- the row stays for what its holders still report, and counts on if a limit is set again. A window_start of 0 belongs to Lifetime.
CREATE TABLE quotas (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    fleet_id     TEXT    NOT NULL REFERENCES fleets (id),
    subject_kind TEXT    NOT NULL CHECK (subject_kind IN ('Token', 'Project', 'User', 'Fleet')),
    subject_id   TEXT    NOT NULL,
    unit         TEXT    NOT NULL CHECK (unit IN ('Requests', 'Tokens', 'Cost')),
    period       INTEGER NOT NULL DEFAULT 0,
    window_kind  TEXT    NOT NULL DEFAULT 'Lifetime' CHECK (window_kind IN ('Lifetime', 'Minute', 'Hour', 'Day', 'Month')),
    window_start INTEGER NOT NULL DEFAULT 0,
    max_units    INTEGER CHECK (max_units >= 0),
    used         INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0),
    reserved     INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    forfeited    INTEGER NOT NULL DEFAULT 0 CHECK (forfeited >= 0),
    wanted       INTEGER NOT NULL DEFAULT FALSE CHECK (wanted IN (FALSE, TRUE)),
    version      INTEGER NOT NULL DEFAULT 1,
    UNIQUE (fleet_id, subject_kind, subject_id, unit, period, window_kind, window_start)
) STRICT;

-- A row per (quota, holder) that outlives its block, so that a holder's cumulative figures never fall. Live: its rest is in `reserved`.
-- Expired: in `forfeited`, until the holder reports. Closed: in `forfeited` for good, the holder is known to be dead.
CREATE TABLE leases (
    fleet_id   TEXT    NOT NULL REFERENCES fleets (id),
    quota_id   INTEGER NOT NULL REFERENCES quotas (id),
    holder     TEXT    NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount >= 0),
    spent      INTEGER NOT NULL CHECK (spent >= 0),
    expires_at INTEGER NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('Live', 'Expired', 'Closed')),
    PRIMARY KEY (quota_id, holder),
    CHECK (spent <= amount)
) STRICT, WITHOUT ROWID;

CREATE INDEX leases_to_expire ON leases (fleet_id, expires_at) WHERE state = 'Live';

-- ------------------------------------------------------------------------------------------------------- usage, files, API, audit

-- `day` counts from 1970-01-01 (UTC). An empty project_id or token_id is "none": NULL would not be equal to itself in the key.
CREATE TABLE usage (
    fleet_id         TEXT    NOT NULL REFERENCES fleets (id),
    day              INTEGER NOT NULL,
    project_id       TEXT    NOT NULL DEFAULT '',
    token_id         TEXT    NOT NULL DEFAULT '',
    model            TEXT    NOT NULL DEFAULT '',
    provider         TEXT    NOT NULL DEFAULT '',
    requests         INTEGER NOT NULL DEFAULT 0,
    input_tokens     INTEGER NOT NULL DEFAULT 0,
    cached_tokens    INTEGER NOT NULL DEFAULT 0,
    output_tokens    INTEGER NOT NULL DEFAULT 0,
    reasoning_tokens INTEGER NOT NULL DEFAULT 0,
    estimated        INTEGER NOT NULL DEFAULT 0,
    cost             INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (fleet_id, day, project_id, token_id, model, provider)
) STRICT, WITHOUT ROWID;

-- Declared objects of a standalone process: the uid that was minted at first sight, the last good spec, the last status.
CREATE TABLE file_objects (
    fleet_id   TEXT    NOT NULL REFERENCES fleets (id),
    kind       TEXT    NOT NULL,
    namespace  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    uid        TEXT    NOT NULL,
    source     TEXT    NOT NULL,
    generation INTEGER NOT NULL DEFAULT 1,
    spec       TEXT    NOT NULL,
    status     TEXT,
    PRIMARY KEY (fleet_id, kind, namespace, name),
    UNIQUE (fleet_id, uid)
) STRICT, WITHOUT ROWID;

-- An answer may hold a fresh token, so it is kept sealed; its key is the request's Idempotency-Key within `scope`.
CREATE TABLE idempotency_keys (
    fleet_id       TEXT    NOT NULL REFERENCES fleets (id),
    scope          TEXT    NOT NULL,
    key            TEXT    NOT NULL,
    request_digest BLOB    NOT NULL CHECK (length(request_digest) = 32),
    status         INTEGER,
    key_id         TEXT,
    sealed         BLOB,
    created_at     INTEGER NOT NULL,
    expires_at     INTEGER NOT NULL,
    PRIMARY KEY (fleet_id, scope, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_to_expire ON idempotency_keys (fleet_id, expires_at);

-- Append-only; each writer chains its own rows: hash covers prev and the row.
CREATE TABLE audit (
    fleet_id   TEXT    NOT NULL REFERENCES fleets (id),
    writer     TEXT    NOT NULL,
    seq        INTEGER NOT NULL,
    prev       BLOB    NOT NULL,
    hash       BLOB    NOT NULL,
    at         INTEGER NOT NULL,
    action     TEXT    NOT NULL,
    actor      TEXT    NOT NULL,
    outcome    TEXT    NOT NULL CHECK (outcome IN ('Allowed', 'Denied', 'Failed')),
    subject    TEXT    NOT NULL DEFAULT '',
    request_id TEXT    NOT NULL DEFAULT '',
    detail     TEXT    NOT NULL DEFAULT '{}',
    PRIMARY KEY (fleet_id, writer, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX audit_by_time ON audit (fleet_id, at);
