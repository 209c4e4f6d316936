-- What an operator of a cluster needs: which rotation.trigger a revision was issued under, rows that are found by their resource's uid alone, and
-- which limits have run out, without a look at all the others.

ALTER TABLE token_revisions ADD COLUMN rotation_trigger TEXT;

CREATE INDEX tokens_by_uid ON tokens (fleet_id, owner_uid, id);
CREATE INDEX projects_by_uid ON projects (fleet_id, owner_uid, id);

-- A column rather than an index over the sum: it changes once in a quota's life, so that settling touches no index.
ALTER TABLE quotas ADD COLUMN exhausted INTEGER GENERATED ALWAYS AS (used + forfeited >= max_units) VIRTUAL;
CREATE INDEX quotas_exhausted ON quotas (fleet_id, subject_kind, subject_id, period) WHERE exhausted;
