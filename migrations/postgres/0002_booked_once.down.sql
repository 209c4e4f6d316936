-- Sums stay; which batches are in them is forgotten.
DROP VIEW ledger_entries;
DROP FUNCTION write_ledger();
DROP VIEW usage_batches;
DROP FUNCTION book_usage();
DROP TABLE usage_writers;
ALTER TABLE usage DROP COLUMN last_at;
