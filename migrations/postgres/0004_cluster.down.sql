DROP INDEX quotas_exhausted;
ALTER TABLE quotas DROP COLUMN exhausted;
DROP INDEX projects_by_uid;
DROP INDEX tokens_by_uid;
ALTER TABLE token_revisions DROP COLUMN rotation_trigger;
