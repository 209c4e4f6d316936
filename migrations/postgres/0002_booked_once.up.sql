-- Usage is booked once, however often a batch is repeated; ledger and usage are written by one statement each.
--
-- The two views hold nothing of use to a reader. They are there to be inserted into: what a transaction of several statements would write
-- goes in as rows, and a trigger spreads it over the tables. That saves most of the round trips.

ALTER TABLE usage ADD COLUMN last_at BIGINT NOT NULL DEFAULT 0;

-- The last line of a batch that was booked, by holder. Batches of a holder are numbered from 1, their lines from 0.
CREATE TABLE usage_writers (
    fleet_id TEXT COLLATE "C" NOT NULL REFERENCES fleets (id),
    holder   TEXT COLLATE "C" NOT NULL,
    seq      BIGINT NOT NULL,
    line     BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    PRIMARY KEY (fleet_id, holder)
);

CREATE VIEW usage_batches AS
    SELECT w.holder, w.seq, w.line, u.fleet_id, u.day, u.project_id, u.token_id, u.model, u.provider, u.requests, u.input_tokens,
        u.cached_tokens, u.output_tokens, u.reasoning_tokens, u.estimated, u.cost, u.last_at
    FROM usage u JOIN usage_writers w ON w.fleet_id = u.fleet_id WHERE FALSE;

-- Two that write the same batch at once meet at the row of usage_writers: the second waits, and then finds the line booked.
CREATE FUNCTION book_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO usage_writers AS w (fleet_id, holder, seq, line, at) VALUES (NEW.fleet_id, NEW.holder, NEW.seq, NEW.line, (SELECT now_ms FROM clock))
    ON CONFLICT (fleet_id, holder) DO UPDATE SET seq = excluded.seq, line = excluded.line, at = excluded.at
        WHERE (w.seq, w.line) < (excluded.seq, excluded.line);
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    INSERT INTO usage AS u (fleet_id, day, project_id, token_id, model, provider, requests, input_tokens, cached_tokens, output_tokens,
        reasoning_tokens, estimated, cost, last_at)
    VALUES (NEW.fleet_id, NEW.day, NEW.project_id, NEW.token_id, NEW.model, NEW.provider, NEW.requests, NEW.input_tokens, NEW.cached_tokens,
        NEW.output_tokens, NEW.reasoning_tokens, NEW.estimated, NEW.cost, NEW.last_at)
    ON CONFLICT (fleet_id, day, project_id, token_id, model, provider) DO UPDATE SET
        requests = u.requests + excluded.requests,
        input_tokens = u.input_tokens + excluded.input_tokens,
        cached_tokens = u.cached_tokens + excluded.cached_tokens,
        output_tokens = u.output_tokens + excluded.output_tokens,
        reasoning_tokens = u.reasoning_tokens + excluded.reasoning_tokens,
        estimated = u.estimated + excluded.estimated,
        cost = u.cost + excluded.cost,
        last_at = GREATEST(u.last_at, excluded.last_at);
    RETURN NEW;
END
$$;
CREATE TRIGGER book_usage INSTEAD OF INSERT ON usage_batches FOR EACH ROW EXECUTE FUNCTION book_usage();

-- A quota's new figures and its holder's lease, valid only while the quota stands at `version`: every ledger transaction raises it, so it
-- tells whether what the figures were computed from still stands. If not, the row is passed over, and is missing from what is returned.
-- Leases that were overdue at `now_ms` expire with it. Without a `state` there is no lease to write.
CREATE VIEW ledger_entries AS
    SELECT q.fleet_id, q.id AS quota_id, q.version, q.used, q.reserved, q.forfeited, q.wanted,
        l.holder, l.amount, l.spent, l.expires_at, l.state, l.expires_at AS now_ms
    FROM quotas q JOIN leases l ON l.quota_id = q.id WHERE FALSE;

CREATE FUNCTION write_ledger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- The lock: whoever holds it in front of us raises the version, and then this finds nothing.
    UPDATE quotas SET version = version + 1, used = NEW.used, reserved = NEW.reserved, forfeited = NEW.forfeited, wanted = NEW.wanted
        WHERE fleet_id = NEW.fleet_id AND id = NEW.quota_id AND version = NEW.version;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE leases SET state = 'Expired'
        WHERE quota_id = NEW.quota_id AND holder <> NEW.holder AND state = 'Live' AND expires_at <= NEW.now_ms;
    IF NEW.state IS NOT NULL THEN
        INSERT INTO leases (fleet_id, quota_id, holder, amount, spent, expires_at, state)
        VALUES (NEW.fleet_id, NEW.quota_id, NEW.holder, NEW.amount, NEW.spent, NEW.expires_at, NEW.state)
        ON CONFLICT (quota_id, holder) DO UPDATE SET
            amount = excluded.amount, spent = excluded.spent, expires_at = excluded.expires_at, state = excluded.state;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER write_ledger INSTEAD OF INSERT ON ledger_entries FOR EACH ROW EXECUTE FUNCTION write_ledger();
