DROP INDEX tokens_limited;
DROP INDEX projects_by_uid;
DROP INDEX tokens_by_uid;
ALTER TABLE token_revisions DROP COLUMN rotation_trigger;
