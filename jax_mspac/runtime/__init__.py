"""What a process does around its work: devices, other processes, signals, memory, errors as a line."""
