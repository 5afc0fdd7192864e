-- Watches are counted by the statements that add and change them, many at once. A trigger did it for each row, and had
-- every page that the row's statement touched copied first.
DROP TRIGGER watch_added;
DROP TRIGGER watch_changed;
