-- Back to what 0002 made of the ledger. Quotas that the older schema cannot hold are lost.
DROP VIEW ledger_entries;
DROP FUNCTION write_ledger();
DROP INDEX quotas_to_purge;
DELETE FROM leases WHERE quota_id IN (SELECT id FROM quotas WHERE window_kind <> 'Lifetime' OR unit <> 'Requests');
DELETE FROM quotas WHERE window_kind <> 'Lifetime' OR unit <> 'Requests';
ALTER TABLE leases DROP COLUMN overrun;
ALTER TABLE quotas DROP COLUMN limits_version;
ALTER TABLE quotas DROP CONSTRAINT quotas_unit_check;
ALTER TABLE quotas ADD CONSTRAINT quotas_unit_check CHECK (unit IN ('Requests', 'Tokens', 'Cost'));
ALTER TABLE quotas DROP CONSTRAINT quotas_window_kind_check;
ALTER TABLE quotas ADD CONSTRAINT quotas_window_kind_check CHECK (window_kind IN ('Lifetime', 'Minute', 'Hour', 'Day', 'Month'));
ALTER TABLE providers DROP COLUMN prices;
ALTER TABLE projects DROP COLUMN limits_version;
ALTER TABLE projects DROP COLUMN limits;
ALTER TABLE tokens DROP COLUMN limits_version;
ALTER TABLE tokens DROP COLUMN limits;

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
