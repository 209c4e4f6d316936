-- The whole logical schema of the first version. Tables that no code touches yet are here so that nothing is rebuilt later.
--
-- Conventions, the same on both engines: times are milliseconds since 1970 on the `clock` view, ids are UUID texts, enumerations are texts
-- under a CHECK, JSON is text that the database never looks into, flags are TRUE or FALSE. Every row carries its fleet_id.
-- Texts compare byte by byte (COLLATE "C"), as they do in SQLite.
-- An `owner_uid` that is NULL marks a row that came through the API (origin Api); those of a declared resource (origin Resource) have one.

-- The only clock that decides anything. Tests replace this view by one over a row that they move by hand.
-- Statement time, because now() stands still in a transaction: a wait for a lock would be booked into the time before it.
CREATE VIEW clock AS SELECT CAST(FLOOR(EXTRACT(EPOCH FROM statement_timestamp()) * 1000) AS BIGINT) AS now_ms;

-- Written by the migration runner, in the transaction of the migration itself. It stands before any fleet, so it carries none.
CREATE TABLE schema_info (
    only_row   BIGINT  PRIMARY KEY CHECK (only_row = 1),
    version    BIGINT  NOT NULL,
    min_reader BIGINT  NOT NULL,
    min_writer BIGINT  NOT NULL,
    applied_at BIGINT  NOT NULL
);

-- The claim. The key-check value is sealed with the fleet's encryption key: a wrong or lost key is found before it does harm.
CREATE TABLE fleets (
    id         TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    only_row   BIGINT  NOT NULL UNIQUE DEFAULT 1 CHECK (only_row = 1),
    cluster    TEXT COLLATE "C" NOT NULL,
    namespace  TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    key_id     TEXT COLLATE "C" NOT NULL,
    key_check  BYTEA    NOT NULL,
    claimed_at BIGINT  NOT NULL
);

-- ---------------------------------------------------------------------------------------------------------------- the change feed

CREATE TABLE feed_head (
    fleet_id TEXT COLLATE "C" NOT NULL PRIMARY KEY REFERENCES fleets (id),
    version  BIGINT  NOT NULL DEFAULT 0 CHECK (version >= 0),
    epoch    BIGINT  NOT NULL DEFAULT 0 CHECK (epoch >= 0)
);

-- Wakes the followers; the row itself stays the truth. One channel per fleet: notifications know databases, not schemas.
CREATE FUNCTION notify_feed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_notify('llm_proxy_' || NEW.fleet_id, NEW.version::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER notify_feed AFTER UPDATE ON feed_head FOR EACH ROW
    WHEN (NEW.version <> OLD.version) EXECUTE FUNCTION notify_feed();

CREATE TABLE changes (
    fleet_id     TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    version      BIGINT  NOT NULL,
    subject_kind TEXT COLLATE "C" NOT NULL CHECK (subject_kind IN ('Fleet', 'Project', 'Token')),
    subject_id   TEXT COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (fleet_id, version)
);

CREATE TABLE replicas (
    fleet_id       TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    holder         TEXT COLLATE "C" NOT NULL,
    acked_version  BIGINT  NOT NULL,
    seen_at        BIGINT  NOT NULL,
    stale_after_ms BIGINT  NOT NULL,
    PRIMARY KEY (fleet_id, holder)
);

-- ------------------------------------------------------------------------------------------------------- providers, models, routes

CREATE TABLE providers (
    fleet_id   TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    name       TEXT COLLATE "C" NOT NULL,
    origin     TEXT COLLATE "C" NOT NULL CHECK (origin IN ('Api', 'Resource')),
    api        TEXT COLLATE "C" NOT NULL CHECK (api IN ('OpenAI', 'Anthropic', 'Gemini', 'Custom', 'Echo')),
    base_url   TEXT COLLATE "C",
    auth       TEXT COLLATE "C" NOT NULL CHECK (auth IN ('Bearer', 'Header', 'None')),
    settings   TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    version    BIGINT  NOT NULL DEFAULT 1,
    PRIMARY KEY (fleet_id, name)
);

-- Prices are micro-cents per million LLM tokens.
CREATE TABLE models (
    fleet_id         TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    provider         TEXT COLLATE "C" NOT NULL,
    name             TEXT COLLATE "C" NOT NULL,
    origin           TEXT COLLATE "C" NOT NULL CHECK (origin IN ('Api', 'Resource')),
    input_price      BIGINT  CHECK (input_price >= 0),
    cached_price     BIGINT  CHECK (cached_price >= 0),
    output_price     BIGINT  CHECK (output_price >= 0),
    settings         TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    version          BIGINT  NOT NULL DEFAULT 1,
    PRIMARY KEY (fleet_id, provider, name)
);

CREATE TABLE routes (
    fleet_id   TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    name       TEXT COLLATE "C" NOT NULL,
    origin     TEXT COLLATE "C" NOT NULL CHECK (origin IN ('Api', 'Resource')),
    spec       TEXT COLLATE "C" NOT NULL,
    version    BIGINT  NOT NULL DEFAULT 1,
    PRIMARY KEY (fleet_id, name)
);

-- ------------------------------------------------------------------------------------------------------- projects and credentials

CREATE TABLE projects (
    fleet_id         TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    id               TEXT COLLATE "C" NOT NULL,
    origin           TEXT COLLATE "C" NOT NULL CHECK (origin IN ('Api', 'Resource')),
    owner_cluster    TEXT COLLATE "C",
    owner_uid        TEXT COLLATE "C",
    namespace        TEXT COLLATE "C" NOT NULL,
    name             TEXT COLLATE "C" NOT NULL,
    state            TEXT COLLATE "C" NOT NULL CHECK (state IN ('Active', 'Inactive', 'Deleted')),
    policy           TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    metadata         TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    takeaway_version BIGINT  NOT NULL DEFAULT 0,
    version          BIGINT  NOT NULL DEFAULT 1,
    created_at       BIGINT  NOT NULL,
    updated_at       BIGINT  NOT NULL,
    PRIMARY KEY (fleet_id, id),
    UNIQUE (fleet_id, owner_cluster, owner_uid),
    CHECK ((origin = 'Resource') = (owner_cluster IS NOT NULL AND owner_uid IS NOT NULL))
);

-- `provider` is a name, not a reference: a project may be declared before its provider. A keyless provider has neither key_id nor sealed.
-- `sealed` is a nonce and the AES-256-GCM ciphertext; the credential's id is its associated data, so sealed keys cannot change rows.
CREATE TABLE credentials (
    fleet_id   TEXT COLLATE "C" NOT NULL,
    id         TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" NOT NULL,
    provider   TEXT COLLATE "C" NOT NULL,
    weight     BIGINT  NOT NULL DEFAULT 1 CHECK (weight >= 0),
    priority   BIGINT  NOT NULL DEFAULT 0,
    key_id     TEXT COLLATE "C",
    sealed     BYTEA,
    version    BIGINT  NOT NULL DEFAULT 1,
    PRIMARY KEY (fleet_id, id),
    UNIQUE (fleet_id, project_id, provider),
    FOREIGN KEY (fleet_id, project_id) REFERENCES projects (fleet_id, id),
    CHECK ((key_id IS NULL) = (sealed IS NULL))
);

-- ---------------------------------------------------------------------------------------------------------- tokens and revisions

CREATE TABLE tokens (
    fleet_id         TEXT COLLATE "C" NOT NULL,
    id               TEXT COLLATE "C" NOT NULL,
    project_id       TEXT COLLATE "C" NOT NULL,
    origin           TEXT COLLATE "C" NOT NULL CHECK (origin IN ('Api', 'Resource')),
    owner_cluster    TEXT COLLATE "C",
    owner_uid        TEXT COLLATE "C",
    namespace        TEXT COLLATE "C" NOT NULL,
    name             TEXT COLLATE "C" NOT NULL,
    alias            TEXT COLLATE "C",
    metadata         TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    user_id          TEXT COLLATE "C",
    expires_at       BIGINT,
    state            TEXT COLLATE "C" NOT NULL CHECK (state IN ('Active', 'Suspended', 'Revoked')),
    state_by         TEXT COLLATE "C" CHECK (state_by IN ('Spec', 'Deletion', 'Manage')),
    state_at         BIGINT  NOT NULL,
    period           BIGINT  NOT NULL,
    max_requests     BIGINT  CHECK (max_requests >= 0),
    secret_name      TEXT COLLATE "C" NOT NULL,
    takeaway_version BIGINT  NOT NULL DEFAULT 0,
    version          BIGINT  NOT NULL DEFAULT 1,
    created_at       BIGINT  NOT NULL,
    updated_at       BIGINT  NOT NULL,
    PRIMARY KEY (fleet_id, id),
    UNIQUE (fleet_id, owner_cluster, owner_uid),
    FOREIGN KEY (fleet_id, project_id) REFERENCES projects (fleet_id, id),
    CHECK ((origin = 'Resource') = (owner_cluster IS NOT NULL AND owner_uid IS NOT NULL)),
    CHECK (state <> 'Revoked' OR state_by IS NOT NULL)
);

CREATE INDEX tokens_by_project ON tokens (fleet_id, project_id);

-- One row per value that was ever issued; only its SHA-256 is kept. Several Pending rows per token are legal. `epoch` is the leader's that
-- issued it. `ended_early` tells a revision that was ended before its time from one that has run out.
CREATE TABLE token_revisions (
    digest      BYTEA    NOT NULL PRIMARY KEY CHECK (length(digest) = 32),
    fleet_id    TEXT COLLATE "C" NOT NULL,
    token_id    TEXT COLLATE "C" NOT NULL,
    revision    BIGINT  NOT NULL,
    prefix      TEXT COLLATE "C" NOT NULL,
    epoch       BIGINT  NOT NULL DEFAULT 0,
    state       TEXT COLLATE "C" NOT NULL CHECK (state IN ('Pending', 'Active', 'Previous', 'Ended')),
    write_begun BOOLEAN NOT NULL DEFAULT FALSE,
    ended_early BOOLEAN NOT NULL DEFAULT FALSE,
    issued_at   BIGINT  NOT NULL,
    ends_at     BIGINT  NOT NULL,
    FOREIGN KEY (fleet_id, token_id) REFERENCES tokens (fleet_id, id)
);

CREATE INDEX token_revisions_by_token ON token_revisions (fleet_id, token_id, state, revision);
CREATE UNIQUE INDEX token_revisions_one_active ON token_revisions (fleet_id, token_id) WHERE state = 'Active';

-- ------------------------------------------------------------------------------------------------------------ quotas and leases

-- An identity: an id never comes back, so a late report of a holder can never hit another quota. A max_units that is NULL sets no limit:
-- the row stays for what its holders still report, and counts on if a limit is set again. A window_start of 0 belongs to Lifetime.
CREATE TABLE quotas (
    id           BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fleet_id     TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    subject_kind TEXT COLLATE "C" NOT NULL CHECK (subject_kind IN ('Token', 'Project', 'User', 'Fleet')),
    subject_id   TEXT COLLATE "C" NOT NULL,
    unit         TEXT COLLATE "C" NOT NULL CHECK (unit IN ('Requests', 'Tokens', 'Cost')),
    period       BIGINT  NOT NULL DEFAULT 0,
    window_kind  TEXT COLLATE "C" NOT NULL DEFAULT 'Lifetime' CHECK (window_kind IN ('Lifetime', 'Minute', 'Hour', 'Day', 'Month')),
    window_start BIGINT  NOT NULL DEFAULT 0,
    max_units    BIGINT  CHECK (max_units >= 0),
    used         BIGINT  NOT NULL DEFAULT 0 CHECK (used >= 0),
    reserved     BIGINT  NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    forfeited    BIGINT  NOT NULL DEFAULT 0 CHECK (forfeited >= 0),
    wanted       BOOLEAN NOT NULL DEFAULT FALSE,
    version      BIGINT  NOT NULL DEFAULT 1,
    UNIQUE (fleet_id, subject_kind, subject_id, unit, period, window_kind, window_start)
);

-- A row per (quota, holder) that outlives its block, so that a holder's cumulative figures never fall. Live: its rest is in `reserved`.
-- Expired: in `forfeited`, until the holder reports. Closed: in `forfeited` for good, the holder is known to be dead.
CREATE TABLE leases (
    fleet_id   TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    quota_id   BIGINT  NOT NULL REFERENCES quotas (id),
    holder     TEXT COLLATE "C" NOT NULL,
    amount     BIGINT  NOT NULL CHECK (amount >= 0),
    spent      BIGINT  NOT NULL CHECK (spent >= 0),
    expires_at BIGINT  NOT NULL,
    state      TEXT COLLATE "C" NOT NULL CHECK (state IN ('Live', 'Expired', 'Closed')),
    PRIMARY KEY (quota_id, holder),
    CHECK (spent <= amount)
);

CREATE INDEX leases_to_expire ON leases (fleet_id, expires_at) WHERE state = 'Live';

-- ------------------------------------------------------------------------------------------------------- usage, files, API, audit

-- `day` counts from 1970-01-01 (UTC). An empty project_id or token_id is "none": NULL would not be equal to itself in the key.
CREATE TABLE usage (
    fleet_id         TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    day              BIGINT  NOT NULL,
    project_id       TEXT COLLATE "C" NOT NULL DEFAULT '',
    token_id         TEXT COLLATE "C" NOT NULL DEFAULT '',
    model            TEXT COLLATE "C" NOT NULL DEFAULT '',
    provider         TEXT COLLATE "C" NOT NULL DEFAULT '',
    requests         BIGINT  NOT NULL DEFAULT 0,
    input_tokens     BIGINT  NOT NULL DEFAULT 0,
    cached_tokens    BIGINT  NOT NULL DEFAULT 0,
    output_tokens    BIGINT  NOT NULL DEFAULT 0,
    reasoning_tokens BIGINT  NOT NULL DEFAULT 0,
    estimated        BIGINT  NOT NULL DEFAULT 0,
    cost             BIGINT  NOT NULL DEFAULT 0,
    PRIMARY KEY (fleet_id, day, project_id, token_id, model, provider)
);

-- Declared objects of a standalone process: the uid that was minted at first sight, the last good spec, the last status.
CREATE TABLE file_objects (
    fleet_id   TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    kind       TEXT COLLATE "C" NOT NULL,
    namespace  TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    uid        TEXT COLLATE "C" NOT NULL,
    source     TEXT COLLATE "C" NOT NULL,
    generation BIGINT  NOT NULL DEFAULT 1,
    spec       TEXT COLLATE "C" NOT NULL,
    status     TEXT COLLATE "C",
    PRIMARY KEY (fleet_id, kind, namespace, name),
    UNIQUE (fleet_id, uid)
);

-- An answer may hold a fresh token, so it is kept sealed; its key is the request's Idempotency-Key within `scope`.
CREATE TABLE idempotency_keys (
    fleet_id       TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    scope          TEXT COLLATE "C" NOT NULL,
    key            TEXT COLLATE "C" NOT NULL,
    request_digest BYTEA    NOT NULL CHECK (length(request_digest) = 32),
    status         BIGINT,
    key_id         TEXT COLLATE "C",
    sealed         BYTEA,
    created_at     BIGINT  NOT NULL,
    expires_at     BIGINT  NOT NULL,
    PRIMARY KEY (fleet_id, scope, key)
);

CREATE INDEX idempotency_keys_to_expire ON idempotency_keys (fleet_id, expires_at);

-- Append-only; each writer chains its own rows: hash covers prev and the row.
CREATE TABLE audit (
    fleet_id   TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    writer     TEXT COLLATE "C" NOT NULL,
    seq        BIGINT  NOT NULL,
    prev       BYTEA    NOT NULL,
    hash       BYTEA    NOT NULL,
    at         BIGINT  NOT NULL,
    action     TEXT COLLATE "C" NOT NULL,
    actor      TEXT COLLATE "C" NOT NULL,
    outcome    TEXT COLLATE "C" NOT NULL CHECK (outcome IN ('Allowed', 'Denied', 'Failed')),
    subject    TEXT COLLATE "C" NOT NULL DEFAULT '',
    request_id TEXT COLLATE "C" NOT NULL DEFAULT '',
    detail     TEXT COLLATE "C" NOT NULL DEFAULT '{}',
    PRIMARY KEY (fleet_id, writer, seq)
);

CREATE INDEX audit_by_time ON audit (fleet_id, at);
