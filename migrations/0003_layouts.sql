-- Which columns the row had whose values `fields` holds (events/layout.py); NULL: not known.
ALTER TABLE documents ADD COLUMN layout bytea;
ALTER TABLE moves ADD COLUMN layout bytea;
