-- Back to the tables of 0004 and the ledger of 0002. Quotas that the older schema cannot hold are lost.
DROP VIEW ledger_entries;

CREATE TABLE quotas_anew (
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
    exhausted    INTEGER GENERATED ALWAYS AS (used + forfeited >= max_units) VIRTUAL,
    UNIQUE (fleet_id, subject_kind, subject_id, unit, period, window_kind, window_start)
) STRICT;
INSERT INTO quotas_anew (id, fleet_id, subject_kind, subject_id, unit, period, window_kind, window_start, max_units, used, reserved, forfeited,
    wanted, version)
SELECT id, fleet_id, subject_kind, subject_id, unit, period, window_kind, window_start, max_units, used, reserved, forfeited, wanted, version
FROM quotas WHERE window_kind = 'Lifetime' AND unit = 'Requests';

CREATE TABLE leases_anew (
    fleet_id   TEXT    NOT NULL REFERENCES fleets (id),
    quota_id   INTEGER NOT NULL REFERENCES quotas_anew (id),
    holder     TEXT    NOT NULL,
    amount     INTEGER NOT NULL CHECK (amount >= 0),
    spent      INTEGER NOT NULL CHECK (spent >= 0),
    expires_at INTEGER NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('Live', 'Expired', 'Closed')),
    PRIMARY KEY (quota_id, holder),
    CHECK (spent <= amount)
) STRICT, WITHOUT ROWID;
INSERT INTO leases_anew (fleet_id, quota_id, holder, amount, spent, expires_at, state)
SELECT fleet_id, quota_id, holder, amount, spent, expires_at, state FROM leases WHERE quota_id IN (SELECT id FROM quotas_anew);

DROP TABLE leases;
DROP TABLE quotas;
ALTER TABLE quotas_anew RENAME TO quotas;
ALTER TABLE leases_anew RENAME TO leases;
CREATE INDEX leases_to_expire ON leases (fleet_id, expires_at) WHERE state = 'Live';
CREATE INDEX quotas_exhausted ON quotas (fleet_id, subject_kind, subject_id, period) WHERE exhausted;

ALTER TABLE providers DROP COLUMN prices;
ALTER TABLE projects DROP COLUMN limits_version;
ALTER TABLE projects DROP COLUMN limits;
ALTER TABLE tokens DROP COLUMN limits_version;
ALTER TABLE tokens DROP COLUMN limits;

CREATE VIEW ledger_entries AS
    SELECT q.fleet_id, q.id AS quota_id, q.version, q.used, q.reserved, q.forfeited, q.wanted,
        l.holder, l.amount, l.spent, l.expires_at, l.state, l.expires_at AS now_ms
    FROM quotas q JOIN leases l ON l.quota_id = q.id WHERE FALSE;

CREATE TRIGGER write_ledger INSTEAD OF INSERT ON ledger_entries BEGIN
    UPDATE quotas SET version = version + 1, used = NEW.used, reserved = NEW.reserved, forfeited = NEW.forfeited, wanted = NEW.wanted
        WHERE fleet_id = NEW.fleet_id AND id = NEW.quota_id AND version = NEW.version;
    -- There is one writer, so this cannot be; if it were, nothing of the statement may stay.
    SELECT RAISE(ABORT, 'the ledger has moved on') WHERE changes() = 0;
    UPDATE leases SET state = 'Expired'
        WHERE quota_id = NEW.quota_id AND holder <> NEW.holder AND state = 'Live' AND expires_at <= NEW.now_ms;
    INSERT INTO leases (fleet_id, quota_id, holder, amount, spent, expires_at, state)
    SELECT NEW.fleet_id, NEW.quota_id, NEW.holder, NEW.amount, NEW.spent, NEW.expires_at, NEW.state WHERE NEW.state IS NOT NULL
    ON CONFLICT (quota_id, holder) DO UPDATE SET
        amount = excluded.amount, spent = excluded.spent, expires_at = excluded.expires_at, state = excluded.state;
END;
