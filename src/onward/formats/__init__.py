"""Other people's files: in and out. A format is a function of a run, or gives rows; nothing here drives or appends."""
