"""What every part stands on: errors, files, keys, progress, several processes."""
