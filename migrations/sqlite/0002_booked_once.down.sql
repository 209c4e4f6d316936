-- Sums stay; which batches are in them is forgotten.
DROP VIEW ledger_entries;
DROP VIEW usage_batches;
DROP TABLE usage_writers;
ALTER TABLE usage DROP COLUMN last_at;
