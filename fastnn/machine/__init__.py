"""The machine: its cores, threads, folders and versions, and work that no signal may interrupt."""
