-- Limits beside a token's lifetime requests: per minute, hour, day, week and month, of LLM tokens and money, and of requests in flight.
--
-- What is declared stands as JSON beside its subject; `limits_version` rises whenever it changes, so that of two data planes that open a window's
-- quota the one that knows the newer limits has the last word. A window's quota is a row that the first request of the window makes.

ALTER TABLE tokens ADD COLUMN limits TEXT COLLATE "C" NOT NULL DEFAULT '[]';
ALTER TABLE tokens ADD COLUMN limits_version BIGINT NOT NULL DEFAULT 0;
ALTER TABLE projects ADD COLUMN limits TEXT COLLATE "C" NOT NULL DEFAULT '[]';
ALTER TABLE projects ADD COLUMN limits_version BIGINT NOT NULL DEFAULT 0;

-- Prices that go before the built-in ones, as JSON.
ALTER TABLE providers ADD COLUMN prices TEXT COLLATE "C" NOT NULL DEFAULT '[]';

ALTER TABLE quotas DROP CONSTRAINT quotas_unit_check;
ALTER TABLE quotas ADD CONSTRAINT quotas_unit_check
    CHECK (unit IN ('Requests', 'Tokens', 'InputTokens', 'OutputTokens', 'TotalTokens', 'Cost', 'InFlight'));
ALTER TABLE quotas DROP CONSTRAINT quotas_window_kind_check;
ALTER TABLE quotas ADD CONSTRAINT quotas_window_kind_check
    CHECK (window_kind IN ('Lifetime', 'Minute', 'Hour', 'Day', 'Week', 'Month'));
ALTER TABLE quotas ADD COLUMN limits_version BIGINT NOT NULL DEFAULT 0;
CREATE INDEX quotas_to_purge ON quotas (fleet_id, window_kind, window_start) WHERE window_kind <> 'Lifetime';

-- What a holder used beyond what it had leased, cumulative: LLM tokens and money are known only afterwards.
ALTER TABLE leases ADD COLUMN overrun BIGINT NOT NULL DEFAULT 0 CHECK (overrun >= 0);

DROP VIEW ledger_entries;
DROP FUNCTION write_ledger();

-- As before, with the overrun. A writer that knows none leaves it as it is.
CREATE VIEW ledger_entries AS
    SELECT q.fleet_id, q.id AS quota_id, q.version, q.used, q.reserved, q.forfeited, q.wanted,
        l.holder, l.amount, l.spent, l.overrun, l.expires_at, l.state, l.expires_at AS now_ms
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
        INSERT INTO leases AS l (fleet_id, quota_id, holder, amount, spent, overrun, expires_at, state)
        VALUES (NEW.fleet_id, NEW.quota_id, NEW.holder, NEW.amount, NEW.spent, COALESCE(NEW.overrun, 0), NEW.expires_at, NEW.state)
        ON CONFLICT (quota_id, holder) DO UPDATE SET
            amount = excluded.amount, spent = excluded.spent, overrun = COALESCE(NEW.overrun, l.overrun),
            expires_at = excluded.expires_at, state = excluded.state;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER write_ledger INSTEAD OF INSERT ON ledger_entries FOR EACH ROW EXECUTE FUNCTION write_ledger();
