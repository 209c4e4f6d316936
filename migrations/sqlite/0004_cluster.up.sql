-- What an operator of a cluster needs: which rotation.trigger a revision was issued under, rows that are found by their resource's uid alone, and
-- the tokens whose limit may run out, without a look at those that have none.

ALTER TABLE token_revisions ADD COLUMN rotation_trigger TEXT;

CREATE INDEX tokens_by_uid ON tokens (fleet_id, owner_uid, id);
CREATE INDEX projects_by_uid ON projects (fleet_id, owner_uid, id);
CREATE INDEX tokens_limited ON tokens (fleet_id, id, period) WHERE origin = 'Resource' AND state <> 'Revoked' AND max_requests IS NOT NULL;
