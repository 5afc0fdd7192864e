-- What exactly failed where a callback gave no answer, in the words of the layer that failed.
ALTER TABLE attempts ADD COLUMN error_detail TEXT;
