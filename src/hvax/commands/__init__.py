"""What the program's commands do, one file a command."""
