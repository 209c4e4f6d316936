-- What an id, a project or a token has been hashed into cannot be verified without them: the audit goes with its columns.
DELETE FROM audit;
DROP INDEX audit_by_id;
ALTER TABLE audit DROP COLUMN times;
ALTER TABLE audit DROP COLUMN token_id;
ALTER TABLE audit DROP COLUMN project_id;
ALTER TABLE audit DROP COLUMN id;
DROP INDEX usage_by_token;
DROP INDEX projects_api_name;
ALTER TABLE projects DROP COLUMN deactivated_at;
