-- Usage is booked once, however often a batch is repeated; ledger and usage are written by one statement each.
--
-- The two views hold nothing of use to a reader. They are there to be inserted into: what a transaction of several statements would write
-- goes in as rows, and a trigger spreads it over the tables. On PostgreSQL that saves most of the round trips.

ALTER TABLE usage ADD COLUMN last_at INTEGER NOT NULL DEFAULT 0;

-- The last line of a batch that was booked, by holder. Batches of a holder are numbered from 1, their lines from 0.
CREATE TABLE usage_writers (
    fleet_id TEXT    NOT NULL REFERENCES fleets (id),
    holder   TEXT    NOT NULL,
    seq      INTEGER NOT NULL,
    line     INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (fleet_id, holder)
) STRICT, WITHOUT ROWID;

CREATE VIEW usage_batches AS
    SELECT w.holder, w.seq, w.line, u.fleet_id, u.day, u.project_id, u.token_id, u.model, u.provider, u.requests, u.input_tokens,
        u.cached_tokens, u.output_tokens, u.reasoning_tokens, u.estimated, u.cost, u.last_at
    FROM usage u JOIN usage_writers w ON w.fleet_id = u.fleet_id WHERE FALSE;

CREATE TRIGGER book_usage INSTEAD OF INSERT ON usage_batches BEGIN
    INSERT INTO usage_writers (fleet_id, holder, seq, line, at) VALUES (NEW.fleet_id, NEW.holder, NEW.seq, NEW.line, (SELECT now_ms FROM clock))
    ON CONFLICT (fleet_id, holder) DO UPDATE SET seq = excluded.seq, line = excluded.line, at = excluded.at
        WHERE (usage_writers.seq, usage_writers.line) < (excluded.seq, excluded.line);
    INSERT INTO usage (fleet_id, day, project_id, token_id, model, provider, requests, input_tokens, cached_tokens, output_tokens,
        reasoning_tokens, estimated, cost, last_at)
    SELECT NEW.fleet_id, NEW.day, NEW.project_id, NEW.token_id, NEW.model, NEW.provider, NEW.requests, NEW.input_tokens, NEW.cached_tokens,
        NEW.output_tokens, NEW.reasoning_tokens, NEW.estimated, NEW.cost, NEW.last_at WHERE changes() > 0
    ON CONFLICT (fleet_id, day, project_id, token_id, model, provider) DO UPDATE SET
        requests = requests + excluded.requests,
        input_tokens = input_tokens + excluded.input_tokens,
        cached_tokens = cached_tokens + excluded.cached_tokens,
        output_tokens = output_tokens + excluded.output_tokens,
        reasoning_tokens = reasoning_tokens + excluded.reasoning_tokens,
        estimated = estimated + excluded.estimated,
        cost = cost + excluded.cost,
        last_at = MAX(last_at, excluded.last_at);
END;

-- A quota's new figures and its holder's lease, valid only while the quota stands at `version`: every ledger transaction raises it, so it
-- tells whether what the figures were computed from still stands. Leases that were overdue at `now_ms` expire with it. Without a `state`
-- there is no lease to write.
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
