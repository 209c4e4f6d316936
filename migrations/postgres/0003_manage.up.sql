-- What /manage needs: when a project was deactivated, names that are unique among its own projects, usage by token,
-- and an audit that is found by id, by project and by token, in which one row may stand for many alike.

ALTER TABLE projects ADD COLUMN deactivated_at BIGINT;
CREATE UNIQUE INDEX projects_api_name ON projects (fleet_id, name) WHERE origin = 'Api';

CREATE INDEX usage_by_token ON usage (fleet_id, token_id);

ALTER TABLE audit ADD COLUMN id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN project_id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN token_id TEXT COLLATE "C" NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN times BIGINT NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX audit_by_id ON audit (fleet_id, id);
