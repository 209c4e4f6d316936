ALTER TABLE tokens DROP COLUMN deletion_policy;
ALTER TABLE projects DROP COLUMN deletion_policy;
ALTER TABLE fleets DROP COLUMN declared_by;
ALTER TABLE fleets DROP COLUMN deletion_policy;
