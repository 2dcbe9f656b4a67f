"""What the commands do: files in, files out, one file per command."""
