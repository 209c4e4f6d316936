-- What a resource's deletion means stands in its row: nobody can ask the resource when it is gone. A fleet's row also says which ProxyConfig said
-- so, for one of the same name that is made again has asked for nothing yet.

ALTER TABLE fleets ADD COLUMN deletion_policy TEXT NOT NULL DEFAULT 'Retain' CHECK (deletion_policy IN ('Retain', 'Delete'));
ALTER TABLE fleets ADD COLUMN declared_by TEXT NOT NULL DEFAULT '';
ALTER TABLE projects ADD COLUMN deletion_policy TEXT NOT NULL DEFAULT 'Retain' CHECK (deletion_policy IN ('Retain', 'Delete'));
ALTER TABLE tokens ADD COLUMN deletion_policy TEXT NOT NULL DEFAULT 'Revoke' CHECK (deletion_policy IN ('Revoke', 'Orphan'));
